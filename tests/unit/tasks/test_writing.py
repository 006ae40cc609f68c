from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrun.config.schema import GenerationSection, ModelSection
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.processor import MultimodalProcessor, build_processor
from mmrun.errors import ConfigError
from mmrun.tasks.writing import Writer, counted_tokens
from mmrun.tasks.written import Written
from tests.unit.models.tiny import SIZE, model, tokenizer

PROMPTS = ["", "read this", "four"]
ONCE_WRITTEN = tokenizer().convert_tokens_to_ids("b")
"""A token that the tiny model writes by itself."""


@pytest.fixture(scope="module")
def tiny() -> Any:
    return model(seed=5)


@pytest.fixture(scope="module")
def processor() -> MultimodalProcessor:
    texts = ["four two seven", "read this"] * 4
    pipeline = Pipeline(inputs=(InputSlot(modality="features", settings={}),))
    return build_processor(pipeline, model=ModelSection(), texts=texts)


def batch(prompts: Sequence[str] = PROMPTS) -> dict[str, Tensor]:
    torch.manual_seed(3)
    rows = len(prompts)
    given = {
        "input_frames": torch.randn(rows, 4, SIZE),
        "attention_mask": torch.ones(rows, 4, dtype=torch.long),
        "labels": torch.tensor([[9, 8, 2]] * rows),
    }
    ids = [tokenizer()(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    longest = max(map(len, ids))
    if longest:
        given["decoder_input_ids"] = torch.tensor(
            [[*row, *[1] * (longest - len(row))] for row in ids]
        )
        given["decoder_attention_mask"] = torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in ids]
        )
    return given


def written(
    tiny: Any,
    processor: MultimodalProcessor,
    *,
    prompts: Sequence[str] = PROMPTS,
    given: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    row: int = 0,
    **options: Any,
) -> list[Written]:
    section = GenerationSection(
        **{name: options.pop(name) for name in ("max_length", "num_beams") if name in options},
        options=options,
    )
    writer = Writer(tiny, processor=processor, section=section, seed=seed)
    return writer.write(given or batch(prompts), prompts=prompts, row=row)


@pytest.mark.parametrize("penalty", [1.0, 0.5])
def test_the_score_of_beams_is_the_one_that_the_search_compares(
    tiny: Any, processor: MultimodalProcessor, penalty: float
) -> None:
    prompts = ["read this", "read this"]
    options: dict[str, Any] = {
        "num_beams": 3,
        "length_penalty": penalty,
        "num_return_sequences": 2,
    }
    inputs = {name: one for name, one in batch(prompts).items() if name != "labels"}
    expected = tiny.generate(
        **inputs, **options, return_dict_in_generate=True, output_scores=True
    ).sequences_scores

    found = written(tiny, processor, prompts=prompts, **options)

    scores = [one.score for row in found for one in row.candidates]
    torch.testing.assert_close(torch.tensor(scores), expected, atol=1e-5, rtol=1e-5)


def test_the_score_of_a_greedy_text_is_the_mean_of_its_tokens(
    tiny: Any, processor: MultimodalProcessor
) -> None:
    prompts = ["", ""]
    inputs = {name: one for name, one in batch(prompts).items() if name != "labels"}
    found = tiny.generate(**inputs, return_dict_in_generate=True, output_scores=True)
    each = tiny.compute_transition_scores(found.sequences, found.scores, normalize_logits=True)
    read = found.sequences[:, 1:] != tiny.config.pad_token_id
    expected = (each.masked_fill(~read, 0.0).sum(dim=1) / read.sum(dim=1)).tolist()

    scores = [row.score for row in written(tiny, processor, prompts=prompts)]

    assert scores == pytest.approx(expected, abs=1e-5)


def test_a_row_has_the_same_text_and_score_in_any_batch(
    tiny: Any, processor: MultimodalProcessor
) -> None:
    together = written(tiny, processor)

    alone = [
        written(
            tiny,
            processor,
            prompts=[prompt],
            given={name: one[row : row + 1] for name, one in _cut(batch(), prompt, row).items()},
        )[0]
        for row, prompt in enumerate(PROMPTS)
    ]

    assert [row.text for row in together] == [row.text for row in alone]
    assert [row.score for row in together] == pytest.approx([row.score for row in alone], abs=2e-6)


def _cut(given: dict[str, Tensor], prompt: str, row: int) -> dict[str, Tensor]:
    """Leave out the padding of a row's prompt."""
    length = int(given["decoder_attention_mask"][row].sum())
    for name in ("decoder_input_ids", "decoder_attention_mask"):
        given[name] = given[name][:, :length]
    if not prompt:
        del given["decoder_input_ids"], given["decoder_attention_mask"]
    return given


def test_samples_depend_on_seed_and_row_alone(tiny: Any, processor: MultimodalProcessor) -> None:
    def drawn(*, seed: int, row: int) -> list[Written]:
        return written(tiny, processor, do_sample=True, top_k=0, seed=seed, row=row)

    first = drawn(seed=1, row=8)
    torch.rand(7)

    assert drawn(seed=1, row=8) == first
    assert drawn(seed=2, row=8) != first
    assert drawn(seed=1, row=16) != first


def test_of_several_texts_the_best_is_first(tiny: Any, processor: MultimodalProcessor) -> None:
    rows = written(tiny, processor, do_sample=True, num_return_sequences=4)

    for row in rows:
        scores = [one.score for one in row.candidates]
        assert len(scores) == 4
        assert scores == sorted(scores, reverse=True)
        assert (row.text, row.score) == (row.candidates[0].text, scores[0])


def test_a_row_that_could_not_be_read_has_no_text(
    tiny: Any, processor: MultimodalProcessor
) -> None:
    given = batch()
    given["labels"][1] = -100
    given["attention_mask"][1] = 0

    rows = written(tiny, processor, given=given)

    assert (rows[1].text, rows[1].score) == ("", None)
    assert [rows[0], rows[2]] == written(
        tiny,
        processor,
        prompts=[PROMPTS[0], PROMPTS[2]],
        given={name: one[[0, 2]] for name, one in batch().items()},
    )


@pytest.mark.parametrize(
    ("options", "base"),
    [
        ({"num_beams": 4}, {}),
        ({"max_length": 5}, {}),
        ({"max_new_tokens": 2}, {}),
        ({"min_length": 11}, {"eos_token_id": [2, ONCE_WRITTEN]}),
        ({"length_penalty": -9.0}, {"num_beams": 4}),
        ({"do_sample": True}, {}),
        ({"temperature": 0.01}, {"do_sample": True}),
        ({"top_k": 1}, {"do_sample": True}),
        ({"top_p": 0.01}, {"do_sample": True}),
        ({"no_repeat_ngram_size": 1}, {}),
        ({"repetition_penalty": 9.0}, {}),
        ({"suppress_tokens": [ONCE_WRITTEN]}, {}),
        ({"forced_bos_token_id": 9}, {}),
    ],
    ids=" ".join,
)
def test_an_option_has_an_effect(
    tiny: Any, processor: MultimodalProcessor, options: dict[str, Any], base: dict[str, Any]
) -> None:
    assert written(tiny, processor, **base, **options) != written(tiny, processor, **base)


def test_sampling_among_one_token_is_no_sampling(tiny: Any, processor: MultimodalProcessor) -> None:
    assert written(tiny, processor, do_sample=True, top_k=1) == written(tiny, processor)


def test_an_option_without_effect_is_named(
    tiny: Any, processor: MultimodalProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    found = written(tiny, processor, temperature=2.0, length_penalty=2.0)

    assert found == written(tiny, processor)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "without effect: generation.temperature (do_sample is not true)" in line
    assert "generation.length_penalty (there is one beam)" in line


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_return_sequences": 3}, "Greedy methods .* do not support `num_return_sequences`"),
        ({"do_sample": True, "temperature": -1.0}, "`temperature` .* strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be greater than 0"),
    ],
    ids=["greedy", "temperature", "nothing new"],
)
def test_what_transformers_does_not_take_is_a_mistake_in_the_file(
    tiny: Any, processor: MultimodalProcessor, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=f"generation: .*{problem}"):
        written(tiny, processor, **options)


@pytest.mark.parametrize(
    ("tokens", "prompt", "counted"),
    [
        pytest.param([2, 5, 6, 2, 1], 0, [1, 1, 1, 0], id="up to the end and with it"),
        pytest.param([2, 5, 6, 2, 1], 1, [0, 1, 1, 0], id="not the prompt"),
        pytest.param([2, 2, 6, 2, 1], 1, [0, 1, 1, 0], id="an end within the prompt is none"),
        pytest.param([2, 5, 6, 7, 8], 0, [1, 1, 1, 1], id="all, where the room was used up"),
        pytest.param([2, 5, 6, 1, 1], 0, [1, 1, 0, 0], id="cut in a group of shorter texts"),
        pytest.param([2, 3, 6, 3, 2], 0, [1, 0, 0, 0], id="one of several ends"),
    ],
)
def test_the_tokens_that_count(tokens: list[int], prompt: int, counted: list[int]) -> None:
    found = counted_tokens(torch.tensor([tokens]), prompts=[prompt], ends=[2, 3], filler=[1])

    assert found.int().tolist() == [counted]
