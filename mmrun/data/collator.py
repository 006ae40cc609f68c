"""From samples to the padded tensors of a batch."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from mmrun.data.dataset import Sample
from mmrun.data.processor import MultimodalProcessor
from mmrun.errors import DataError

IGNORED = -100
"""The label that counts in no loss."""

_REMEMBERED = 65_536
Batch = dict[str, torch.Tensor]


class Collator:
    """Pads the signals, and turns text into ids; nothing that is random or kept between batches."""

    def __init__(self, processor: MultimodalProcessor) -> None:
        self._tokenizer = processor.tokenizer
        self._remembered = lru_cache(_REMEMBERED)(self._encoded)

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return the tensors of one batch; prompts are there only if a sample has one."""
        batch = _signals([sample.signal for sample in samples])
        encoder = [self._ids(sample.encoder_prompt) for sample in samples]
        decoder = [self._ids(sample.decoder_prompt) for sample in samples]
        if any(encoder):
            names = ("encoder_prompt", "encoder_prompt_length_padding_mask")
            batch.update(zip(names, self._prompts(encoder), strict=True))
        if any(decoder):
            names = ("decoder_input_ids", "decoder_attention_mask")
            batch.update(zip(names, self._prompts(decoder), strict=True))
        end = (self._tokenizer.eos_token_id,)
        batch["labels"] = _padded(
            [
                (*prompt, *self._ids(sample.output), *end)
                for prompt, sample in zip(decoder, samples, strict=True)
            ],
            filler=IGNORED,
        )
        return batch

    def _prompts(self, prompts: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = _padded(prompts, filler=self._tokenizer.pad_token_id)
        return ids, _padded([(1,) * len(prompt) for prompt in prompts], filler=0)

    def _ids(self, text: str) -> tuple[int, ...]:
        return self._remembered(text) if text else ()

    def _encoded(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def __getstate__(self) -> dict[str, object]:
        return {"_tokenizer": self._tokenizer}  # for worker processes that are not forked

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._remembered = lru_cache(_REMEMBERED)(self._encoded)


def _signals(signals: Sequence["np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]) -> Batch:
    """Return ``input_frames`` ``[B, T, ...]`` filled up with zeros, and which frames are real."""
    shapes = {signal.shape[1:] for signal in signals}
    if len(shapes) > 1:
        raise DataError(
            "a batch has images of different sizes: "
            + ", ".join(sorted("x".join(map(str, shape)) for shape in shapes)),
            hint="set width and height in processor.modality_kwargs",
        )
    lengths = [len(signal) for signal in signals]
    frames = np.zeros((len(signals), max(lengths), *shapes.pop()), dtype=np.float32)
    mask = np.zeros(frames.shape[:2], dtype=np.int64)
    for row, signal in enumerate(signals):
        frames[row, : len(signal)] = signal
        mask[row, : len(signal)] = 1
    return {"input_frames": torch.from_numpy(frames), "attention_mask": torch.from_numpy(mask)}


def _padded(rows: Sequence[Sequence[int]], *, filler: int) -> torch.Tensor:
    """Return rows of ids as one tensor, filled up on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *(filler,) * (longest - len(row))] for row in rows])
