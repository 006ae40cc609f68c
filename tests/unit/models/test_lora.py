import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from mmrun.errors import ConfigError, PluginError
from mmrun.models.build import load_model
from mmrun.training.weights import FROZEN, save_with_frozen_apart
from tests.unit.models.tiny import BACKBONES, CLIP, SIZE, model

ATTENTION = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"input_frames": torch.randn(2, 4, SIZE), "labels": torch.tensor([[9, 2], [8, 2]])}


def adapted(**given: Any) -> Any:
    kind = given.get("backbone_type")
    targets = ["q", "v"] if kind == "t5" else ATTENTION["target_modules"]
    return model(**given, lora={**ATTENTION, "target_modules": targets})


@pytest.mark.parametrize("given", BACKBONES)
def test_adapters_and_mapper_are_trained_and_the_backbone_is_not(given: dict[str, Any]) -> None:
    tiny = adapted(**given)

    tiny(**batch()).loss.backward()

    trained = {name for name, part in tiny.named_parameters() if part.requires_grad}
    assert all("lora_" in name or name.startswith("multimodal_mapper") for name in trained)
    assert any("lora_A" in name for name in trained)
    assert {name for name, part in tiny.named_parameters() if part.grad is not None} == trained


@torch.no_grad()
def test_new_adapters_change_nothing() -> None:
    torch.testing.assert_close(adapted()(**batch()).loss, model()(**batch()).loss)


def test_the_seed_decides_the_adapters() -> None:
    first, same, other = (adapted(seed=seed).state_dict() for seed in (1, 1, 2))
    name = next(name for name in first if "lora_A" in name)

    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("given", BACKBONES)
def test_an_adapted_model_is_saved_and_loaded_bit_for_bit(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    tiny = adapted(**given)
    for part in tiny.parameters():
        torch.nn.init.normal_(part.data)
    tiny.save_pretrained(tmp_path)

    loaded = load_model(tmp_path)

    before, after = tiny.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    trained = [
        {name for name, part in one.named_parameters() if part.requires_grad}
        for one in (tiny, loaded)
    ]
    assert trained[0] == trained[1]
    assert tiny.generate(**batch()).tolist() == loaded.generate(**batch()).tolist()


def test_a_checkpoint_keeps_the_frozen_backbone_in_a_file_of_its_own(tmp_path: Path) -> None:
    wide = {"d_model": 128, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
    tiny = model(backbone_config=wide, lora=ATTENTION)

    save_with_frozen_apart(
        tiny, tmp_path, save=lambda state: tiny.save_pretrained(tmp_path, state_dict=state)
    )

    assert (tmp_path / FROZEN).exists()
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tiny.state_dict().items())


def test_a_pretrained_backbone_is_adapted_as_it_is(tmp_path: Path) -> None:
    model(seed=5).backbone.save_pretrained(tmp_path)

    tiny = model(pretrained_backbone=str(tmp_path), backbone_config=None, lora=ATTENTION)

    stored = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).state_dict()
    found = tiny.backbone.state_dict()
    assert all(
        torch.equal(
            found.get(name, found.get(name.replace("proj", "proj.base_layer"))), stored[name]
        )
        for name in stored
    )


def test_adapters_stay_out_of_the_feature_extractor() -> None:
    tiny = adapted(feature_extractor_type="clip", feature_extractor_config=CLIP)

    assert not any("lora_" in name for name, _ in tiny.parts("input_frames")[0].named_parameters())


@pytest.mark.parametrize(
    ("lora", "problem"),
    [
        ({"lora_alfa": 8}, r"model\.lora\.lora_alfa: .*; did you mean 'lora_alpha'"),
        ({"modules_to_save": ["shared"]}, r"model\.lora\.modules_to_save: there is no such key"),
        ({"target_modules": ["no_proj"]}, r"model\.lora: "),
        ({"r": 0, "target_modules": ["q_proj"]}, r"model\.lora: "),
        ({"target_modules": ["lm_head"]}, r"lm_head shares its weight"),
    ],
)
def test_adapters_that_cannot_be_made_are_refused(lora: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        model(lora=lora)


def test_the_extra_for_adapters_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)

    with pytest.raises(PluginError, match="peft, which is not installed") as caught:
        model(lora=ATTENTION)

    assert "mmrun[lora]" in caught.value.hint
