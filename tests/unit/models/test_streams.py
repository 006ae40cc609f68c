from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrun.config.schema import StreamSection
from mmrun.errors import ConfigError
from mmrun.models.build import load_model
from mmrun.models.configuration import FRAMES, InputSpec
from mmrun.models.embedder import MultimodalEmbedderModel
from mmrun.training.fit import load_weights
from tests.unit.models.tiny import BACKBONES, CLIP, SIZE, model

TEXT = InputSpec("source", "source_mask", tokens=True)
HANDS = InputSpec("hands", "hands_mask")


def frames(*, name: str = "input_frames", mask: str = "attention_mask") -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.randn(2, 4, SIZE),
        mask: torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }


def several() -> dict[str, Tensor]:
    return {
        **frames(),
        **frames(name="hands", mask="hands_mask"),
        "source": torch.tensor([[9, 8, 7], [9, 1, 1]]),
        "source_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
    }


def of_three_streams(**given: Any) -> MultimodalEmbedderModel:
    hands = StreamSection(multimodal_mapper_layer_norm=True)
    return model(inputs=(FRAMES, TEXT, HANDS), streams={"hands": hands}, **given)


def row(batch: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    return {name: value[number, None] for name, value in batch.items()}


@pytest.mark.parametrize("given", BACKBONES)
@torch.no_grad()
def test_tokens_are_read_as_the_backbone_alone_reads_them(given: dict[str, Any]) -> None:
    tiny = model(inputs=(TEXT,), **given)

    ours, _ = tiny.encode(
        {"source": torch.tensor([[9, 8]]), "source_mask": None},
        encoder_prompt=torch.tensor([[7]]),
    )

    ids = torch.tensor([[7, 9, 8, tiny.config.eos_token_id]])
    alone = tiny.backbone.get_encoder()(input_ids=ids, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(ours.last_hidden_state, alone.last_hidden_state)


@torch.no_grad()
def test_streams_are_read_in_order_and_without_gaps() -> None:
    tiny = of_three_streams()

    _, mask = tiny.encode(several())

    assert mask.sum(dim=1).tolist() == [4 + 3 + 4 + 1, 2 + 1 + 2 + 1]
    assert (mask.diff(dim=1) <= 0).all()


@pytest.mark.parametrize("name", ["input_frames", "hands", "source"])
@torch.no_grad()
def test_every_stream_makes_a_difference(name: str) -> None:
    tiny, given = of_three_streams(), several()
    changed = {**given, name: given[name].flip(dims=(1,))}
    labels = torch.tensor([[9, 2], [8, 2]])

    assert not torch.equal(
        tiny(**given, labels=labels).logits[0], tiny(**changed, labels=labels).logits[0]
    )


@pytest.mark.parametrize("kind", ["linear", "cnn_adapter"])
@torch.no_grad()
def test_a_row_of_several_streams_does_not_depend_on_the_others(kind: str) -> None:
    shared = {"multimodal_mapper_type": kind, "multimodal_mapper_factor": 1}
    tiny, given = of_three_streams(**shared), several()
    labels = torch.tensor([[9, 2], [8, 2]])

    together = tiny(**given, labels=labels).logits
    alone = torch.cat([tiny(**row(given, n), labels=labels[n, None]).logits for n in range(2)])

    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("beams", [1, 2])
def test_text_is_generated_from_several_streams(beams: int) -> None:
    tiny, given = of_three_streams(), several()

    together = tiny.generate(**given, num_beams=beams)

    for number in range(2):
        alone = tiny.generate(**row(given, number), num_beams=beams)[0]
        assert together[number, : len(alone)].tolist() == alone.tolist()


@torch.no_grad()
def test_the_first_stream_may_have_any_name() -> None:
    tiny = model(inputs=(HANDS,))
    given = frames(name="hands", mask="hands_mask")

    same = model()
    same.load_state_dict(tiny.state_dict())

    assert tiny.main_input_name == "hands"
    assert tiny.generate(**given).tolist() == same.generate(**frames()).tolist()


def test_each_stream_has_a_mapper_of_its_own() -> None:
    names = {name.rpartition(".")[0] for name, _ in of_three_streams().named_parameters()}

    assert "multimodal_mapper.mapping" in names
    assert {"other_streams.hands.multimodal_mapper.mapping"} < names
    assert "other_streams.hands.multimodal_mapper.after" in names
    assert not any("source" in name for name in names)


def test_a_stream_can_be_frozen_alone() -> None:
    frozen = {"hands": StreamSection(freeze_multimodal_mapper=True)}

    tiny = model(inputs=(FRAMES, HANDS), streams=frozen)

    assert {name for name, part in tiny.named_parameters() if not part.requires_grad} == {
        "other_streams.hands.multimodal_mapper.mapping.weight",
        "other_streams.hands.multimodal_mapper.mapping.bias",
    }


def test_a_model_of_several_streams_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    images = StreamSection(feature_extractor_type="clip", feature_extractor_config=CLIP)
    tiny = model(inputs=(TEXT, FRAMES, HANDS), streams={"hands": images})
    tiny.save_pretrained(tmp_path)

    loaded = load_model(tmp_path)

    before, after = tiny.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.config.inputs == (TEXT, FRAMES, HANDS)


@pytest.mark.parametrize("kind", ["linear", "cnn_adapter"])
@pytest.mark.parametrize("length", [0, 3])
def test_a_sample_without_frames_leaves_no_trace(kind: str, length: int) -> None:
    tiny = model(multimodal_mapper_type=kind, multimodal_mapper_factor=1, adapter_ksize=(4, 3))
    given = {
        "input_frames": torch.zeros(2, length, SIZE),
        "attention_mask": torch.zeros(2, length, dtype=torch.long),
    }

    loss = tiny(**given, labels=torch.full((2, 3), -100)).loss
    loss.backward()

    assert loss == 0
    assert all(part.grad is None or not part.grad.any() for part in tiny.parameters())


def test_a_stream_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.streams\.hand: .*did you mean 'hands'"):
        model(inputs=(FRAMES, HANDS), streams={"hand": StreamSection()})


def test_keys_for_an_input_of_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.streams\.source: this input has tokens"):
        model(inputs=(FRAMES, TEXT), streams={"source": StreamSection()})


def test_a_mistake_in_a_stream_is_named_where_it_stands() -> None:
    with pytest.raises(ConfigError, match=r"model\.streams\.hands\.adapter_stride: has 1"):
        model(
            inputs=(FRAMES, HANDS),
            streams={
                "hands": StreamSection(
                    multimodal_mapper_type="cnn_adapter",
                    multimodal_mapper_factor=1,
                    adapter_stride=(2,),
                )
            },
        )


def test_a_stream_may_go_without_what_the_others_have(caplog: pytest.LogCaptureFixture) -> None:
    plain = StreamSection(feature_extractor_type=None, multimodal_mapper_type="linear", feat_dim=4)

    tiny = model(
        inputs=(FRAMES, HANDS),
        feature_extractor_type="clip",
        feature_extractor_config=CLIP,
        multimodal_mapper_type="adapter",
        multimodal_mapper_factor=1,
        streams={"hands": plain},
    )

    assert tiny.parts("hands")[0] is None
    assert not caplog.text


@torch.no_grad()
def test_features_as_wide_as_the_backbone_need_no_mapper() -> None:
    tiny = model(multimodal_mapper_type=None, feat_dim=16)
    given = {"input_frames": torch.randn(1, 3, 16), "labels": torch.tensor([[9, 2]])}

    assert torch.isfinite(tiny(**given).loss)
    assert not any("mapper" in name for name, _ in tiny.named_parameters())


def test_features_of_another_width_need_a_mapper() -> None:
    with pytest.raises(
        ConfigError, match=r"model\.multimodal_mapper_type: is none, .* is 3, not 16"
    ):
        model(multimodal_mapper_type=None)


def test_what_is_frozen_may_change_between_a_checkpoint_and_its_resume(tmp_path: Path) -> None:
    of_three_streams(seed=2).save_pretrained(tmp_path)
    hands = StreamSection(multimodal_mapper_layer_norm=True, freeze_multimodal_mapper=True)

    resumed = model(
        inputs=(FRAMES, TEXT, HANDS), streams={"hands": hands}, freeze_backbone=True, seed=1
    )
    load_weights(resumed, tmp_path)

    before, after = of_three_streams(seed=2).state_dict(), resumed.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    trained = {name for name, part in resumed.named_parameters() if part.requires_grad}
    assert trained == {"multimodal_mapper.mapping.weight", "multimodal_mapper.mapping.bias"}
