from typing import Any

import pytest
import torch
from torch import Tensor

from mmrun.models.embedder import MultimodalEmbedderModel
from tests.unit.models.tiny import BACKBONES, M2M, SIZE, T5, model

PROMPTS = {
    "decoder_input_ids": torch.tensor([[9, 8, 7], [8, 1, 1], [1, 1, 1], [7, 9, 1]]),
    "decoder_attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]),
}
LENGTHS = (3, 1, 0, 2)


def inputs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "input_frames": torch.randn(4, 5, SIZE),
        "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2, [1] * 4 + [0], [1] * 5]),
    }


def one(row: int) -> dict[str, Tensor]:
    """The row as if it were alone, without any padding of its prompt."""
    given = {name: value[row, None] for name, value in inputs().items()}
    return {**given, "decoder_input_ids": PROMPTS["decoder_input_ids"][row, None, : LENGTHS[row]]}


def calls(tiny: MultimodalEmbedderModel) -> list[int]:
    """Count the rows of each call of the decoder from now on."""
    rows: list[int] = []
    tiny.get_decoder().register_forward_pre_hook(
        lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True
    )
    return rows


OPTIONS = [
    pytest.param({}, id="greedy"),
    pytest.param({"num_beams": 3}, id="beams"),
    pytest.param({"num_beams": 3, "num_return_sequences": 2}, id="several texts"),
    pytest.param({"max_new_tokens": 4}, id="new tokens"),
    pytest.param({"min_length": 6}, id="least length"),
    pytest.param({"min_new_tokens": 4, "no_repeat_ngram_size": 2}, id="no repeats"),
    pytest.param({"forced_bos_token_id": 6, "forced_eos_token_id": 5}, id="forced"),
    pytest.param({"num_beams": 2, "length_penalty": 2.0, "early_stopping": True}, id="penalty"),
    pytest.param({"use_cache": False}, id="no cache"),
    pytest.param({"eos_token_id": -1}, id="never ends"),
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("given", BACKBONES)
def test_texts_of_mixed_prompts_are_those_of_each_alone(
    given: dict[str, Any], options: dict[str, Any]
) -> None:
    tiny = model(**given, max_length=14, seed=3)
    copies = options.get("num_return_sequences", 1)

    together = tiny.generate(**inputs(), **PROMPTS, **options)

    for row in range(4):
        alone = tiny.generate(**one(row), **options)
        found = together[row * copies : (row + 1) * copies]
        width = min(alone.shape[1], found.shape[1])
        assert found[:, :width].tolist() == alone[:, :width].tolist()
        assert (found[:, width:] == tiny.config.pad_token_id).all()
        assert (alone[:, width:] == tiny.config.pad_token_id).all()


@pytest.mark.parametrize("given", BACKBONES)
def test_mixed_prompts_are_one_batch(given: dict[str, Any]) -> None:
    tiny = model(**given)
    rows = calls(tiny)

    tiny.generate(**inputs(), **PROMPTS, max_new_tokens=4, eos_token_id=-1)

    assert rows == [4] * 4


def test_what_counts_by_width_is_generated_length_by_length() -> None:
    tiny = model()
    rows = calls(tiny)

    together = tiny.generate(**inputs(), **PROMPTS, repetition_penalty=1.2)

    assert set(rows) == {1}
    for row in range(4):
        alone = tiny.generate(**one(row), repetition_penalty=1.2)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()


LED = {**M2M, "max_encoder_position_embeddings": 16, "attention_window": [4]}


@pytest.mark.parametrize(
    ("given", "options"),
    [
        pytest.param({"backbone_type": "t5", "backbone_config": T5}, {}, id="t5"),
        pytest.param({"backbone_type": "led", "backbone_config": LED}, {}, id="led"),
        pytest.param(
            {"backbone_type": "t5", "backbone_config": T5},
            {"num_beams": 3, "early_stopping": "never", "length_penalty": 1.0},
            id="t5 with beams",
        ),
    ],
)
def test_each_length_is_written_from_what_the_encoder_made_of_its_rows(
    given: dict[str, Any], options: dict[str, Any]
) -> None:
    tiny = model(**given)
    options = {"repetition_penalty": 1.2, **options}

    together = tiny.generate(**inputs(), **PROMPTS, **options)

    for row in range(4):
        alone = tiny.generate(**one(row), **options)[0]
        assert together[row, : len(alone)].tolist() == alone.tolist()


@pytest.mark.parametrize("given", BACKBONES)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}])
def test_scores_of_mixed_prompts_are_those_of_each_alone(
    given: dict[str, Any], options: dict[str, Any]
) -> None:
    tiny = model(**given)
    wanted: dict[str, Any] = {"return_dict_in_generate": True, "output_scores": True, **options}

    together = tiny.generate(**inputs(), **PROMPTS, **wanted)

    alone = torch.cat([tiny.generate(**one(row), **wanted).sequences_scores for row in range(4)])
    torch.testing.assert_close(together.sequences_scores, alone)


def test_the_score_of_a_greedy_text_is_the_mean_of_its_tokens() -> None:
    tiny = model()
    written = tiny.generate(**one(0), return_dict_in_generate=True, output_scores=True)
    labels = torch.cat([written.sequences[:, 1:]], dim=1)

    logits = tiny(**{**one(0), "decoder_input_ids": None}, labels=labels).logits
    tokens = logits.log_softmax(-1).gather(2, labels[..., None])[0, 3:, 0]

    torch.testing.assert_close(written.sequences_scores, tokens.mean()[None])


def test_mixed_prompts_can_be_sampled() -> None:
    tiny = model()
    options = {"do_sample": True, "num_return_sequences": 2, "top_k": 5}
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        drawn.append(tiny.generate(**inputs(), **PROMPTS, **options))

    assert torch.equal(*drawn)
    assert drawn[0][0, 1:4].tolist() == [9, 8, 7]
    assert drawn[0][4, 0] == tiny.config.decoder_start_token_id


def test_nothing_stays_behind_of_mixed_prompts() -> None:
    tiny = model()
    before = tiny.generate(**one(0))

    tiny.generate(**inputs(), **PROMPTS)

    assert torch.equal(tiny.generate(**one(0)), before)


@pytest.mark.parametrize("given", BACKBONES)
@pytest.mark.parametrize("beams", [1, 3])
def test_text_is_the_same_without_a_cache(given: dict[str, Any], beams: int) -> None:
    tiny = model(**given)

    with_cache, without = (
        tiny.generate(**inputs(), num_beams=beams, use_cache=cached) for cached in (True, False)
    )

    assert torch.equal(with_cache, without)


def test_the_first_input_may_be_given_without_its_name() -> None:
    tiny = model()
    frames = inputs()["input_frames"]

    named = tiny.generate(input_frames=frames)

    assert torch.equal(tiny.generate(frames), named)
    assert torch.equal(tiny.generate(inputs=frames), named)
