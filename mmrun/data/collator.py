"""From samples to the padded tensors of a batch."""

from collections.abc import Callable, Sequence, Set

import numpy as np
import torch

from mmrun.data.dataset import Sample
from mmrun.data.processor import MultimodalProcessor, Stream
from mmrun.data.tokenizer import ids_to_read, ids_to_write
from mmrun.errors import DataError
from mmrun.modalities.base import Loaded

IGNORED = -100
"""The label that counts in no loss."""

_REMEMBERED = 65_536
Ids = dict[str, tuple[int, ...]]
Batch = dict[str, torch.Tensor]


class Collator:
    """Pads the signals, and turns text into ids; nothing that is random or kept between batches."""

    def __init__(self, processor: MultimodalProcessor, *, multiple: int | None = None) -> None:
        """Fill signals and labels up to a ``multiple`` of frames and tokens.

        Few lengths in place of many suit the hardware, and what is compiled for each shape. Prompts
        stay as they are: something follows them.
        """
        self._tokenizer = processor.tokenizer
        # To ask a tokenizer for one of these takes longer than the rest of a sample.
        self._end = processor.tokenizer.eos_token_id
        self._pad = processor.tokenizer.pad_token_id
        self._streams = processor.inputs
        self._prompted = processor.prompted
        self._multiple = multiple or 1
        self._read: Ids = {"": ()}
        self._written: Ids = {"": ()}

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        """Return the tensors of one batch; prompts are there only if a sample has one.

        A broken sample keeps its place, and none of its labels counts.
        """
        batch: Batch = {}
        for place, stream in enumerate(self._streams):
            batch |= self._signals([sample.signals[place] for sample in samples], stream=stream)
        read = self._ids_of({sample.encoder_prompt for sample in samples}, known=self._read)
        encoder = [read[sample.encoder_prompt] for sample in samples]
        texts = {text for sample in samples for text in (sample.decoder_prompt, sample.output)}
        ids = self._ids_of(texts, known=self._written, of=ids_to_write)
        decoder = [ids[sample.decoder_prompt] for sample in samples]
        if any(encoder):
            names = ("encoder_prompt", "encoder_prompt_length_padding_mask")
            batch.update(zip(names, self._prompts(encoder), strict=True))
        if self._prompted and any(decoder):
            names = ("decoder_input_ids", "decoder_attention_mask")
            batch.update(zip(names, self._prompts(decoder), strict=True))
        labels = [
            # Longer than any prompt in any case: the Seq2SeqTrainer takes prompts of the labels'
            # shape for what it made of labels itself, and leaves them out.
            (IGNORED,) * (len(prompt) + 1)
            if sample.broken
            else (*prompt, *ids[sample.output], self._end)
            for prompt, sample in zip(decoder, samples, strict=True)
        ]
        batch["labels"] = _padded(labels, filler=IGNORED, to=self._multiple)
        return batch

    def _signals(self, signals: Sequence[Loaded], *, stream: Stream) -> Batch:
        """Return one stream ``[B, T, ...]`` filled up, and which of its frames are real."""
        shapes = {signal.shape[1:] for signal in signals}
        if len(shapes) > 1:
            raise DataError(
                "a batch has images of different sizes: "
                + ", ".join(sorted("x".join(map(str, shape)) for shape in shapes)),
                hint="set width and height in processor.modality_kwargs",
            )
        kind = signals[0].dtype
        filler = self._pad if kind.kind == "i" else 0
        longest = _up(max(1, *map(len, signals)), to=self._multiple)
        shape = (len(signals), longest, *shapes.pop())
        # Zeros cost nothing until they are written over, and images are large.
        frames = np.full(shape, filler, dtype=kind) if filler else np.zeros(shape, dtype=kind)
        mask = np.zeros(frames.shape[:2], dtype=np.int64)
        for row, signal in enumerate(signals):
            frames[row, : len(signal)] = signal
            mask[row, : len(signal)] = 1
        return {stream.name: torch.from_numpy(frames), stream.mask: torch.from_numpy(mask)}

    def _prompts(self, prompts: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = _padded(prompts, filler=self._pad)
        return ids, _padded([(1,) * len(prompt) for prompt in prompts], filler=0)

    def _ids_of(
        self, texts: Set[str], *, known: Ids, of: Callable[..., list[list[int]]] = ids_to_read
    ) -> Ids:
        """Return the ids of every text in a batch; the new ones are made together, being faster."""
        if new := sorted(texts - known.keys()):
            made = of(self._tokenizer, new)
            if len(known) + len(new) > _REMEMBERED:
                kept = {text: known[text] for text in texts & known.keys()}
                known.clear()
                known.update({"": (), **kept})
            known.update(zip(new, map(tuple, made), strict=True))
        return known


def _padded(rows: Sequence[Sequence[int]], *, filler: int, to: int = 1) -> torch.Tensor:
    """Return rows of ids as one tensor, filled up on the right to a multiple of ``to``."""
    longest = _up(max(map(len, rows)), to=to)
    return torch.tensor([[*row, *(filler,) * (longest - len(row))] for row in rows])


def _up(length: int, *, to: int) -> int:
    return -(-length // to) * to
