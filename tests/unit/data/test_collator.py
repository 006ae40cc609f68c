import pickle
from typing import Any

import numpy as np
import pytest

from mmrun.data.collator import IGNORED, Collator
from mmrun.data.dataset import Sample
from mmrun.data.processor import MultimodalProcessor
from mmrun.errors import DataError


def sample(output: str, *, frames: int = 1, encoder: str = "", decoder: str = "") -> Sample:
    return Sample(
        signal=np.ones((frames, 2), dtype=np.float32),
        encoder_prompt=encoder,
        decoder_prompt=decoder,
        output=output,
    )


def ids(processor: MultimodalProcessor, text: str) -> list[int]:
    found: list[int] = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def test_signals_are_filled_up_and_the_mask_says_where(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four", frames=3), sample("two", frames=1)])

    assert batch["input_frames"].shape == (2, 3, 2)
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["input_frames"][1, 1:].abs().sum() == 0


def test_labels_are_prompt_text_and_end(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four two", decoder="read"), sample("two")])

    end = processor.tokenizer.eos_token_id
    long = [*ids(processor, "read"), *ids(processor, "four two"), end]
    short = [*ids(processor, "two"), end]
    assert batch["labels"].tolist() == [long, short + [IGNORED] * (len(long) - len(short))]


def test_prompts_are_there_only_when_a_sample_has_one(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four"), sample("two")])

    assert batch.keys() == {"input_frames", "attention_mask", "labels"}


def test_an_empty_prompt_beside_others_is_all_padding(processor: MultimodalProcessor) -> None:
    batch = Collator(processor)([sample("four", encoder="read this"), sample("two")])

    assert batch["encoder_prompt_length_padding_mask"].tolist()[1] == [0, 0]
    assert batch["encoder_prompt"][0].tolist() == ids(processor, "read this")


def test_images_of_different_sizes_are_refused_with_what_to_set(
    processor: MultimodalProcessor,
) -> None:
    images: list[Any] = [np.zeros((1, 3, 4, size), dtype=np.float32) for size in (4, 5)]
    samples = [Sample(signal=i, encoder_prompt="", decoder_prompt="", output="a") for i in images]

    with pytest.raises(DataError, match="3x4x4, 3x4x5") as caught:
        Collator(processor)(samples)

    assert "width and height" in caught.value.hint


def test_a_collator_can_be_sent_to_another_process(processor: MultimodalProcessor) -> None:
    sent = pickle.loads(pickle.dumps(Collator(processor)))

    assert sent([sample("four")])["labels"].tolist() == [
        [*ids(processor, "four"), processor.tokenizer.eos_token_id]
    ]
