from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mmrun.config.schema import GenerationSection, ModelSection
from mmrun.data.dataset import SampleDataset
from mmrun.data.manifest import TextColumns
from mmrun.data.pipeline import InputSlot, Pipeline
from mmrun.data.processor import MultimodalProcessor, build_processor
from mmrun.errors import ConfigError
from mmrun.tasks.translation import compute_metrics, decode, generation_arguments, texts_of

TEXTS = ["four two", "007"]
PROMPTS = ["read this", ""]


@pytest.fixture(scope="module")
def processor() -> MultimodalProcessor:
    pipeline = Pipeline(inputs=(InputSlot(modality="features", settings={}),))
    return build_processor(pipeline, model=ModelSection(), texts=[*TEXTS, *PROMPTS] * 3)


@pytest.fixture
def dataset() -> SampleDataset:
    columns = {"output": TEXTS, "decoder_prompt": PROMPTS}
    return cast("SampleDataset", SimpleNamespace(column=columns.__getitem__))


def written(processor: MultimodalProcessor) -> Any:
    """Return ids as the Trainer hands them over: start, prompt, text, end, filling."""
    tokenizer: Any = processor.tokenizer
    rows = [
        [2, *(tokenizer(prompt)["input_ids"] if prompt else []), *tokenizer(text)["input_ids"], 2]
        for prompt, text in zip(PROMPTS, TEXTS, strict=True)
    ]
    longest = max(map(len, rows)) + 1
    return np.array([[*row, *[1] * (longest - len(row) - 1), -100] for row in rows])


def test_text_comes_back_without_prompt_and_filling(
    processor: MultimodalProcessor, dataset: SampleDataset
) -> None:
    assert decode(written(processor), processor=processor, dataset=dataset) == TEXTS


def test_references_are_the_text_of_the_manifest(
    processor: MultimodalProcessor, dataset: SampleDataset
) -> None:
    scored = compute_metrics(["exact_match"], processor=processor, dataset=dataset)

    assert scored is not None
    evaluated = SimpleNamespace(predictions=written(processor), label_ids=np.array([[5], [6]]))
    assert scored(evaluated) == {"exact_match": 1.0}


def test_a_row_that_could_not_be_read_is_not_scored(
    processor: MultimodalProcessor, dataset: SampleDataset
) -> None:
    scored = compute_metrics(["exact_match"], processor=processor, dataset=dataset)
    tokens = written(processor)
    tokens[1] = 1

    assert scored is not None
    evaluated = SimpleNamespace(predictions=tokens, label_ids=np.array([[5, 2], [-100, -100]]))
    assert scored(evaluated) == {"exact_match": 1.0}


def test_without_names_there_is_nothing_to_compute(
    processor: MultimodalProcessor, dataset: SampleDataset
) -> None:
    assert compute_metrics([], processor=processor, dataset=dataset) is None


def test_an_unknown_metric_is_refused_before_training(
    processor: MultimodalProcessor, dataset: SampleDataset
) -> None:
    with pytest.raises(ConfigError, match="'sacreblue' is not a metric"):
        compute_metrics(["sacreblue"], processor=processor, dataset=dataset)


def test_only_what_was_given_goes_to_generate() -> None:
    section = GenerationSection(num_beams=5, options={"no_repeat_ngram_size": 2})

    assert generation_arguments(section) == {"num_beams": 5, "no_repeat_ngram_size": 2}


@pytest.mark.parametrize("prompted", [True, False])
def test_words_of_the_new_vocabulary_are_text_and_the_prompt_is_not(prompted: bool) -> None:
    pipeline = Pipeline(
        inputs=(InputSlot(modality="features", settings={}),),
        texts=TextColumns(prompted=prompted),
        new_vocabulary="HELLO,WORLD,__en__",
    )
    built = build_processor(pipeline, model=ModelSection(), texts=["the cat sat"] * 3)
    tokenizer: Any = built.tokenizer
    ids = tokenizer("__en__HELLO the cat WORLD", add_special_tokens=False)["input_ids"]
    row = np.array([[2, *ids, tokenizer.eos_token_id, tokenizer.pad_token_id]])

    (text,) = texts_of(row, processor=built, prompts=["__en__"])

    assert text.split() == ["HELLO", "the", "cat", "WORLD"]
