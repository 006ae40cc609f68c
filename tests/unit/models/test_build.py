import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, CLIPConfig, CLIPModel, ViTConfig, ViTModel

from mmrun.data.tokenizer import extend_tokenizer
from mmrun.errors import ConfigError
from mmrun.models.build import build_model, load_model
from tests.unit.models.tiny import CLIP, CLIP_PART, M2M, T5, model, section, tokenizer

VIT: dict[str, Any] = {**CLIP_PART, "image_size": 8, "patch_size": 4}


def test_the_seed_decides_the_weights_and_nothing_else_moves() -> None:
    before = torch.get_rng_state()
    first, same, other = (model(seed=seed).state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_tokenizer_decides_vocabulary_and_special_ids() -> None:
    config = model().config

    assert config.vocab_size == len(tokenizer())
    assert (config.pad_token_id, config.eos_token_id) == (1, 2)


@pytest.mark.parametrize(("kind", "start"), [("m2m_100", 2), ("t5", 1)])
def test_the_decoder_starts_as_its_kind_does(kind: str, start: int) -> None:
    given: dict[str, Any] = {"backbone_type": kind}
    given |= {"backbone_config": M2M if kind == "m2m_100" else {"d_model": 8}}

    assert model(**given).config.decoder_start_token_id == start


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    backbone = model(seed=5).backbone
    backbone.save_pretrained(tmp_path / "backbone")
    return tmp_path / "backbone"


def test_a_pretrained_backbone_keeps_its_weights(pretrained: Path) -> None:
    built = model(pretrained_backbone=str(pretrained), backbone_config=None)

    stored = AutoModelForSeq2SeqLM.from_pretrained(pretrained).state_dict()
    assert all(torch.equal(built.backbone.state_dict()[name], stored[name]) for name in stored)


@pytest.fixture
def untied(tmp_path: Path) -> Path:
    """Write a T5 as those of version 1.1 are: told to be tied, with an output layer of its own."""
    config = {**T5, "feed_forward_proj": "gated-gelu"}
    backbone = model(seed=5, backbone_type="t5", backbone_config=config).backbone
    backbone.save_pretrained(tmp_path / "t5")
    weights = load_file(tmp_path / "t5" / "model.safetensors")
    weights["lm_head.weight"] = weights["shared.weight"].flip(0).contiguous()
    save_file(weights, tmp_path / "t5" / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((tmp_path / "t5" / "config.json").read_text())
    told |= {"tie_word_embeddings": False, "scale_decoder_outputs": False}
    (tmp_path / "t5" / "config.json").write_text(json.dumps(told))
    return tmp_path / "t5"


def of_t5(folder: Path, **given: Any) -> Any:
    given = {"backbone_type": "t5", "backbone_config": None, **given}
    return model(pretrained_backbone=str(folder), **given)


@torch.no_grad()
def test_an_output_layer_that_is_stored_apart_stays_apart(untied: Path, tmp_path: Path) -> None:
    stored: Any = AutoModelForSeq2SeqLM.from_pretrained(untied)
    ids = torch.tensor([[5, 6, 2]])

    built = of_t5(untied)
    built.save_pretrained(tmp_path / "saved")
    loaded = load_model(tmp_path / "saved")

    for found in (built, loaded):
        found.tie_weights()  # as a resume does
        assert found.backbone.lm_head.weight is not found.backbone.shared.weight
        written = found.backbone.eval()(input_ids=ids, decoder_input_ids=ids).logits
        expected = stored(input_ids=ids, decoder_input_ids=ids).logits
        torch.testing.assert_close(written, expected)


def test_new_tokens_have_rows_in_every_table_that_is_apart(untied: Path) -> None:
    extended = tokenizer()
    new = extend_tokenizer(extended, "__de__")
    stored = load_file(untied / "model.safetensors")

    built: Any = build_model(
        section(pretrained_backbone=str(untied), backbone_type="t5", backbone_config=None),
        tokenizer=extended,
        new_tokens=new,
        seed=1,
    ).backbone

    for name in ("shared", "lm_head"):
        table, old = getattr(built, name).weight, stored[f"{name}.weight"]
        assert torch.equal(table[:-1], old)
        torch.testing.assert_close(table[-1], old.mean(dim=0))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        pytest.param({"freeze_backbone": True}, "model.freeze_backbone", id="backbone"),
        pytest.param({"freeze_lm_head": True}, "model.freeze_lm_head", id="tied with the output"),
        pytest.param({"lora": {"r": 2, "target_modules": ["q_proj"]}}, "model.lora", id="adapters"),
    ],
)
def test_new_tokens_that_are_not_trained_are_said(
    pretrained: Path, caplog: pytest.LogCaptureFixture, given: dict[str, Any], why: str
) -> None:
    extended = tokenizer()
    new = extend_tokenizer(extended, "__de__,__en__")

    build_model(
        section(pretrained_backbone=str(pretrained), backbone_config=None, **given),
        tokenizer=extended,
        new_tokens=new,
        seed=1,
    )

    assert f"processor.new_vocabulary: its 2 tokens stay as they begin, all equal: {why}" in (
        caplog.text
    )


def test_new_tokens_for_tables_that_are_not_shared_are_refused(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
    keys |= {"decoder_vocab_size": len(tokenizer()), **M2M}
    model(backbone_type="marian", backbone_config=keys).backbone.save_pretrained(tmp_path)
    extended = tokenizer()
    new = extend_tokenizer(extended, "__de__")

    given = section(pretrained_backbone=str(tmp_path), backbone_config=None)

    with pytest.raises(ConfigError, match=r"new_vocabulary: adds 1 tokens, and encoder and dec"):
        build_model(given, tokenizer=extended, new_tokens=new, seed=1)


def test_a_decoder_with_fewer_rows_than_tokens_is_refused(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False}
    keys |= {"decoder_vocab_size": 20, **M2M}
    model(backbone_type="marian", backbone_config=keys).backbone.save_pretrained(tmp_path)

    with pytest.raises(ConfigError, match="the backbone has embeddings for 20"):
        model(pretrained_backbone=str(tmp_path), backbone_config=None, backbone_type="marian")


def test_what_a_pretrained_part_lacks_is_said_and_drawn_from_the_seed(
    pretrained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deeper = {"decoder_layers": 2}
    given: dict[str, Any] = {"pretrained_backbone": str(pretrained), "backbone_config": deeper}

    first, same, other = (model(seed=seed, **given).state_dict() for seed in (3, 3, 4))

    name = "backbone.model.decoder.layers.1.fc1.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])
    assert "pretrained_backbone: lacks model.decoder.layers.1." in caplog.text


def test_a_frozen_extractor_that_lacks_what_makes_its_vectors_is_refused(tmp_path: Path) -> None:
    ViTModel(ViTConfig(**VIT), add_pooling_layer=False).save_pretrained(tmp_path)
    given: dict[str, Any] = {
        "feature_extractor_type": "vit",
        "pretrained_feature_extractor": str(tmp_path),
        "feat_dim": VIT["hidden_size"],
    }

    model(**given)
    with pytest.raises(ConfigError, match=r"lacks pooler\.dense.*freeze_feature_extractor would"):
        model(**given, freeze_feature_extractor=True)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_parts_that_are_stored_in_half_precision_are_trained_in_float32(
    pretrained: Path, stored: torch.dtype
) -> None:
    AutoModelForSeq2SeqLM.from_pretrained(pretrained).to(stored).save_pretrained(pretrained)
    vision = pretrained.parent / "clip"
    whole: Any = CLIPModel(CLIPConfig(**CLIP))
    whole.to(stored).save_pretrained(vision)

    built = model(
        pretrained_backbone=str(pretrained),
        backbone_config=None,
        feature_extractor_type="clip",
        pretrained_feature_extractor=str(vision),
    )

    assert {weight.dtype for weight in built.parameters()} == {torch.float32}
    for part in (built.config.backbone_config, built.config.feature_extractor_config):
        assert getattr(part, "dtype", None) == torch.float32


def test_single_keys_of_a_pretrained_backbone_can_be_changed(pretrained: Path) -> None:
    built = model(pretrained_backbone=str(pretrained), backbone_config={"dropout": 0.3})

    assert built.backbone.config.dropout == 0.3


def test_new_tokens_start_as_the_mean_of_the_old_ones(pretrained: Path) -> None:
    extended = tokenizer()
    new = extend_tokenizer(extended, "__de__,__en__")
    old = AutoModelForSeq2SeqLM.from_pretrained(pretrained).get_input_embeddings().weight

    built = build_model(
        section(pretrained_backbone=str(pretrained), backbone_config=None),
        tokenizer=extended,
        new_tokens=new,
        seed=1,
    )

    rows: Any = built.get_input_embeddings().weight
    assert len(rows) == len(extended) == len(old) + 2
    torch.testing.assert_close(rows[-2:], old.mean(dim=0).expand(2, -1))
    assert built.get_output_embeddings().weight is rows


def test_a_tokenizer_that_is_larger_than_the_backbone_is_refused(pretrained: Path) -> None:
    larger = tokenizer()
    extend_tokenizer(larger, "__de__,__en__")
    had = len(tokenizer())

    with pytest.raises(ConfigError, match=f"has {had + 2} tokens, the backbone has .* for {had}"):
        build_model(
            section(pretrained_backbone=str(pretrained), backbone_config=None),
            tokenizer=larger,
            seed=1,
        )


def test_a_backbone_with_another_tokenizer_is_refused(pretrained: Path) -> None:
    other = tokenizer()
    other.pad_token = "</s>"

    with pytest.raises(ConfigError, match=r"tokenizer_path: pad_token_id is 2, the backbone has 1"):
        build_model(section(pretrained_backbone=str(pretrained)), tokenizer=other, seed=1)


@pytest.mark.parametrize(
    ("given", "frozen"),
    [
        ({"freeze_multimodal_mapper": True}, {"multimodal_mapper"}),
        ({"freeze_backbone": True}, {"backbone"}),
        ({}, set()),
    ],
)
def test_frozen_parts_are_not_trained(given: dict[str, Any], frozen: set[str]) -> None:
    found = {
        name.partition(".")[0]
        for name, part in model(**given).named_parameters()
        if not part.requires_grad
    }

    assert found == frozen


@pytest.mark.parametrize(
    "key", ["freeze_encoder_embed_tokens", "freeze_decoder_embed_tokens", "freeze_lm_head"]
)
def test_tied_embeddings_are_frozen_together(key: str) -> None:
    given: dict[str, Any] = {key: True}
    frozen = [name for name, part in model(**given).named_parameters() if not part.requires_grad]

    assert frozen == ["backbone.model.shared.weight"]


def test_freezing_holds_after_loading(tmp_path: Path) -> None:
    model(freeze_backbone=True).save_pretrained(tmp_path)

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)

    assert not any(part.requires_grad for part in loaded.backbone.parameters())


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param(
            {"backbone_config": {"d_modle": 16}},
            r"backbone_config\.d_modle: m2m_100 has no such key; did you mean 'd_model'",
            id="misspelt",
        ),
        pytest.param(
            {
                "feature_extractor_type": "clip",
                "feature_extractor_config": {"vision_config": {"hiden_size": 4}},
            },
            r"vision_config\.hiden_size: clip_vision_model has no such key; did you mean 'hidden_s",
            id="misspelt in a part",
        ),
        pytest.param(
            {"use_backbone_max_length": True},
            "use_backbone_max_length: the backbone does not say a length",
            id="no length",
        ),
        pytest.param(
            {"backbone_config": {**M2M, "dtype": "bfloat16"}},
            r"model\.backbone_config\.dtype: is bfloat16, and weights are kept in float32",
            id="half precision",
        ),
        pytest.param(
            {"backbone_config": {"d_model": "wide"}}, r"model\.backbone_config: ", id="no number"
        ),
        pytest.param(
            {"backbone_config": {**M2M, "d_model": 15}}, r"model\.backbone_config: ", id="heads"
        ),
        pytest.param({"backbone_type": "m2m"}, r"model\.backbone_type: ", id="unknown type"),
        pytest.param(
            {"backbone_type": "bert", "backbone_config": {}},
            r"model\.backbone_config: ",
            id="writes no text",
        ),
        pytest.param(
            {"backbone_config": {**M2M, "vocab_size": 5}}, r"vocab_size: is 5", id="too small"
        ),
        pytest.param(
            {"pretrained_backbone": "/no/such/folder"},
            r"pretrained_backbone: there is no folder",
            id="no folder",
        ),
        pytest.param(
            {"pretrained_backbone": str(Path(__file__).parent)},
            r"pretrained_backbone: .*models: the folder holds nothing",
            id="no model in it",
        ),
        pytest.param(
            {"multimodal_mapper_type": "adapter"}, "multimodal_mapper_factor: is not", id="factor"
        ),
        pytest.param(
            {
                "multimodal_mapper_type": "cnn_adapter",
                "multimodal_mapper_factor": 1,
                "adapter_stride": (2,),
            },
            "adapter_stride: has 1 values, adapter_ksize has 2",
            id="strides",
        ),
        pytest.param(
            {"freeze_backbone": True, "freeze_multimodal_mapper": True},
            "nothing is left to train",
            id="all frozen",
        ),
        pytest.param(
            {"pretrained_feature_extractor": "x"}, "there is no feature extractor", id="no type"
        ),
        pytest.param(
            {"feature_extractor_type": "clip", "feature_extractor_config": CLIP, "feat_dim": 9},
            r"model\.feat_dim: is 9, the feature extractor gives 3",
            id="features of another size",
        ),
        pytest.param(
            {"feature_extractor_type": "bert", "feature_extractor_config": {"hidden_size": 12}},
            "model.feature_extractor_type",
            id="reads no images",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        model(**given)


def test_settings_without_effect_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model(multimodal_mapper_factor=2)

    assert "model.multimodal_mapper_factor: without effect" in caplog.text


def test_what_configurations_held_before_transformers_5_is_left_out_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = {"torchscript": False, "use_bfloat16": True, "num_beams": 5, "prefix": None}

    with caplog.at_level(logging.WARNING):
        built = model(backbone_config={**M2M, **old})

    assert not old.keys() & built.backbone.config.to_dict().keys()
    assert "model.backbone_config: without effect in transformers 5: use_bfloat16" in caplog.text
    assert "without effect, the section generation says it: num_beams" in caplog.text
    assert "torchscript" not in caplog.text  # false, as if it were not there


def test_a_key_that_its_kind_had_once_or_that_a_part_repeats_is_left_out() -> None:
    vision: Any = CLIP["vision_config"]
    given = {
        **CLIP,
        "hidden_size": vision["hidden_size"],
        "vision_config": {**vision, "dropout": 0.0},  # CLIP had it once
    }

    built: Any = model(feature_extractor_type="clip", feature_extractor_config=given)

    config: Any = built.config.feature_extractor_config
    assert config.vision_config.hidden_size == vision["hidden_size"]


def test_the_backbone_may_say_how_long_outputs_are(pretrained: Path) -> None:
    own = model(backbone_config={**M2M, "max_length": 20}, use_backbone_max_length=True)
    assert own.generation_config.max_length == 20

    backbone = AutoModelForSeq2SeqLM.from_pretrained(pretrained)
    backbone.generation_config.max_length = 30
    backbone.save_pretrained(pretrained)
    read = model(
        pretrained_backbone=str(pretrained), backbone_config=None, use_backbone_max_length=True
    )
    assert read.generation_config.max_length == 30


def test_a_vocabulary_size_may_be_that_without_the_new_tokens() -> None:
    extended = tokenizer()
    size = len(extended)
    new = extend_tokenizer(extended, "__de__,__en__")

    built = build_model(
        section(backbone_config={**M2M, "vocab_size": size}),
        tokenizer=extended,
        new_tokens=new,
        seed=1,
    )

    assert built.config.vocab_size == size + 2
