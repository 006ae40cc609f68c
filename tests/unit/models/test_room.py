from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrun.config.schema import ModelSection
from mmrun.errors import ConfigError, DataError
from mmrun.models.build import build_model
from mmrun.models.configuration import FRAMES, InputSpec
from mmrun.models.room import Room, rows_without_room
from tests.unit.models.tiny import M2M, SIZE, T5, model, tokenizer

SHORT = {**M2M, "max_position_embeddings": 16}
CNN: dict[str, Any] = {"multimodal_mapper_type": "cnn_adapter", "multimodal_mapper_factor": 1}


def of(kind: str = "bart", **given: Any) -> dict[str, Any]:
    return {"backbone_type": kind, "backbone_config": SHORT, "max_length": 8} | given


def problems(room: Room, **row: Any) -> list[str]:
    whole = {"line": 7, "length": 1, "encoder_prompt": "", "decoder_prompt": "", "output": "a"}
    found = rows_without_room(
        [{**whole, **row}],
        room=room,
        tokens=lambda text: len(text.split()),
        manifest=Path("train.tsv"),
    )
    return [str(error) for error in found]


def batch(*, frames: int = 4, tokens: int = 3) -> dict[str, Tensor]:
    return {
        "input_frames": torch.zeros(1, frames, SIZE),
        "attention_mask": torch.ones(1, frames, dtype=torch.long),
        "labels": torch.full((1, tokens), 5),
    }


@pytest.mark.parametrize("kind", ["bart", "mbart", "marian", "pegasus", "blenderbot"])
def test_a_row_fits_or_is_named_as_the_model_would_find_it(kind: str) -> None:
    tiny = model(**of(kind))

    assert problems(tiny.room, length=15) == []
    tiny(**batch(frames=15))
    assert problems(tiny.room, length=16) == [
        "train.tsv:7: takes 17 positions with prompt and end, the encoder of the backbone has 16"
    ]
    with pytest.raises(DataError, match=r"a row takes 17 positions, the encoder .* has 16"):
        tiny(**batch(frames=16))


def test_a_target_fits_or_is_named_as_the_model_would_find_it() -> None:
    tiny = model(**of())

    assert problems(tiny.room, decoder_prompt="a", output="b " * 14) == []
    tiny(**batch(tokens=16))
    assert (
        "train.tsv:7: the target has 17 tokens with prompt and end"
        in problems(tiny.room, decoder_prompt="a", output="b " * 15)[0]
    )
    with pytest.raises(DataError, match="a target has 17 tokens"):
        tiny(**batch(tokens=17))


def test_a_prompt_takes_positions() -> None:
    room = model(**of()).room

    assert problems(room, length=10, encoder_prompt="a b c d e") == []
    assert len(problems(room, length=10, encoder_prompt="a b c d e f")) == 1


def test_a_cnn_adapter_makes_room() -> None:
    tiny = model(**of(**CNN))

    for frames in (1, 2, 57, 60):
        assert problems(tiny.room, length=frames) == []
        tiny(**batch(frames=frames))
    assert len(problems(tiny.room, length=61)) == 1
    with pytest.raises(DataError, match="a row takes 17 positions"):
        tiny(**batch(frames=61))


@pytest.mark.parametrize(("kind", "keys"), [("m2m_100", SHORT), ("t5", T5)])
def test_backbones_without_a_table_of_positions_have_no_end(
    kind: str, keys: dict[str, Any]
) -> None:
    tiny = model(**of(kind, backbone_config=keys))

    assert tiny.room.endless
    assert problems(tiny.room, length=1000) == []
    tiny(**batch(frames=40, tokens=40))


def test_several_inputs_that_are_shortened_are_not_guessed_at() -> None:
    two = (FRAMES, InputSpec("more", "more_mask"))

    assert len(problems(model(**of(), inputs=two).room, length=16)) == 1
    assert problems(model(**of(**CNN), inputs=two).room, length=400) == []


def test_a_length_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.max_length: is 18, the decoder .* 16 positions"):
        model(**of(max_length=18))


def test_the_usual_length_of_an_output_is_what_the_decoder_has_at_most() -> None:
    usual = ModelSection(feat_dim=SIZE, backbone_type="bart", backbone_config=SHORT)

    built = build_model(usual, tokenizer=tokenizer(), seed=1)

    assert built.generation_config.max_length == 16


@pytest.mark.parametrize("options", [{"max_length": 18}, {"max_new_tokens": 17}])
def test_generating_more_than_the_decoder_can_write_is_refused(options: dict[str, int]) -> None:
    tiny = model(**of())
    given = {name: value for name, value in batch().items() if name != "labels"}

    tiny.generate(**given, **{name: value - 1 for name, value in options.items()}, eos_token_id=-1)
    with pytest.raises(ConfigError, match=r"generation: .* 18 tokens, the decoder .* 16 positions"):
        tiny.generate(**given, **options)
