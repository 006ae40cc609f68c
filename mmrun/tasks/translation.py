"""Translation: signals in, text out; what a trainer needs besides model and data."""

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrun.config.schema import DataSection, GenerationSection
from mmrun.data.collator import IGNORED, Collator
from mmrun.data.dataset import SampleDataset
from mmrun.data.processor import MultimodalProcessor
from mmrun.data.tokenizer import ids_to_write
from mmrun.errors import ConfigError
from mmrun.models.configuration import InputSpec
from mmrun.training.metrics import check_metrics, score

Metrics = Callable[[Any], dict[str, float]]


def inputs_of(processor: MultimodalProcessor) -> list[InputSpec]:
    """Return what a model for this processor reads."""
    return [
        InputSpec(name=stream.name, mask=stream.mask, tokens=stream.tokens)
        for stream in processor.inputs
    ]


def collator(processor: MultimodalProcessor, *, data: DataSection) -> Collator:
    """Return what makes a batch of samples."""
    return Collator(processor, multiple=data.pad_to_multiple_of)


def compute_metrics(
    names: Sequence[str], *, processor: MultimodalProcessor, dataset: SampleDataset
) -> Metrics | None:
    """Return what the Trainer calls after generating for all of ``dataset``, in its order.

    References are the text of the manifest, not what the tokenizer makes of it.
    """
    if not names:
        return None
    check_metrics(names)
    references = dataset.column("output")

    def scored(evaluated: Any) -> dict[str, float]:
        predictions = decode(evaluated.predictions, processor=processor, dataset=dataset)
        # A row that could not be read has no label, and nobody wrote a text for it.
        readable = (evaluated.label_ids != IGNORED).any(axis=1)
        return score(
            names,
            predictions=list(compress(predictions, readable)),
            references=list(compress(references, readable)),
        )

    return scored


def decode(
    tokens: NDArray[np.int64], *, processor: MultimodalProcessor, dataset: SampleDataset
) -> list[str]:
    """Return the text that was generated for each row of ``dataset``, without its prompt."""
    return texts_of(tokens, processor=processor, prompts=dataset.column("decoder_prompt"))


def texts_of(
    tokens: NDArray[np.int64], *, processor: MultimodalProcessor, prompts: Sequence[str]
) -> list[str]:
    """Return the text of each row of ``tokens``, without the prompt of the decoder before it.

    Tokens of `processor.new_vocabulary` are text; those that only the tokenizer knows (ends,
    language codes of its own) are not.
    """
    starts = _ids_of(prompts, processor=processor)
    hidden = _hidden(processor)
    written = []
    for row, start in zip(tokens, starts, strict=True):
        # The first token is the one that every decoder starts with.
        text = row[row != IGNORED][1:]
        begins = processor.prompted or text[: len(start)].tolist() == start
        text = text[len(start) if begins else 0 :]
        written.append(text[~np.isin(text, hidden)].tolist())
    texts = processor.tokenizer.batch_decode(
        written, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return [text.strip() for text in texts]


def _hidden(processor: MultimodalProcessor) -> list[int]:
    """Return the ids of special tokens that stand for no text."""
    tokenizer: Any = processor.tokenizer
    added = {id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special}
    own = tokenizer.convert_tokens_to_ids(processor.new_tokens)
    return sorted({*added, *tokenizer.all_special_ids} - {*own})


def _ids_of(prompts: Sequence[str], *, processor: MultimodalProcessor) -> list[list[int]]:
    texts = sorted({prompt for prompt in prompts if prompt})
    ids = ids_to_write(processor.tokenizer, texts) if texts else []
    known = dict(zip(texts, ids, strict=True))
    return [known.get(prompt, []) for prompt in prompts]


def prompt_lengths(prompts: Sequence[str], *, processor: MultimodalProcessor) -> list[int]:
    """Return how many tokens of each of ``prompts`` the decoder is given, and does not write."""
    if not processor.prompted:
        return [0] * len(prompts)
    return [len(ids) for ids in _ids_of(prompts, processor=processor)]


def check_room(limit: int, *, processor: MultimodalProcessor, dataset: SampleDataset) -> None:
    """Refuse a limit on the tokens to write that a prompt of the decoder uses up."""
    lengths = prompt_lengths(dataset.column("decoder_prompt"), processor=processor)
    needed = max(lengths, default=0) + 2  # the token that every decoder starts with, and one more
    if limit < needed:
        raise ConfigError(
            f"generation.max_length: {limit} tokens leave no room after the longest decoder_prompt",
            hint=f"--max_length {needed} at least",
        )


def generation_arguments(section: GenerationSection) -> dict[str, Any]:
    """Return the arguments of ``generate`` that were given; the others are the model's."""
    given = {**section.options, "max_length": section.max_length, "num_beams": section.num_beams}
    return {name: value for name, value in given.items() if value is not None}
