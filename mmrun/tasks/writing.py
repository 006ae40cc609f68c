"""Let a model write, and say how sure it is of each text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from mmrun.config.schema import GenerationSection
from mmrun.data.collator import IGNORED
from mmrun.data.processor import MultimodalProcessor
from mmrun.tasks.generation_options import acting_options, refused
from mmrun.tasks.translation import prompt_lengths, texts_of
from mmrun.tasks.written import Candidate, Written

_ENCODER = ("encoder_prompt", "encoder_prompt_length_padding_mask")
_DECODER = ("decoder_input_ids", "decoder_attention_mask")


class Writer:
    """Writes for one batch after the other; what it writes depends on that batch alone."""

    def __init__(
        self, model: Any, *, processor: MultimodalProcessor, section: GenerationSection, seed: int
    ) -> None:
        """Prepare a model that lies on its device; ``seed`` is for sampling.

        Raises:
            ConfigError: transformers does not take an option of ``section``.
        """
        self._model = model
        self._processor = processor
        self._options = acting_options(section, defaults=model.generation_config)
        self._seed = seed

    @property
    def limit(self) -> int | None:
        """The most tokens of a text, prompt included; None where only the new ones are limited."""
        if self._option("max_new_tokens") is not None:
            return None
        return int(self._option("max_length"))

    @torch.no_grad()
    def write(
        self, batch: Mapping[str, Tensor], *, prompts: Sequence[str], row: int
    ) -> list[Written]:
        """Write for a batch; ``row`` is that of its first one in the split, and fixes the draws."""
        readable = (batch["labels"] != IGNORED).any(dim=1)
        if not readable.any():
            return [Written()] * len(prompts)
        if self._option("do_sample"):
            torch.manual_seed(int(np.random.SeedSequence((self._seed, row)).generate_state(1)[0]))
        written = iter(
            self._written(
                {name: self._moved(one[readable]) for name, one in batch.items()},
                prompts=[one for one, kept in zip(prompts, readable, strict=True) if kept],
            )
        )
        return [next(written) if kept else Written() for kept in readable]

    def _written(self, batch: Mapping[str, Tensor], *, prompts: Sequence[str]) -> list[Written]:
        read = self._encoded(batch)
        started = {name: batch[name] for name in _DECODER if name in batch}
        try:
            tokens: Tensor = self._model.generate(**read(), **started, **self._options)
        except ValueError as error:  # some values are looked at when they are first used
            raise refused(error) from error
        copies = len(tokens) // len(prompts)
        repeated = [prompt for prompt in prompts for _ in range(copies)]
        texts = texts_of(tokens.cpu().numpy(), processor=self._processor, prompts=repeated)
        found = [
            Candidate(text=text, score=round(score, 6))
            for text, score in zip(texts, self._scores(read, tokens, repeated), strict=True)
        ]
        groups = (found[row : row + copies] for row in range(0, len(found), copies))
        return [
            Written(candidates=tuple(sorted(group, key=lambda one: -one.score))) for group in groups
        ]

    def _encoded(self, batch: Mapping[str, Tensor]) -> Callable[[], dict[str, Any]]:
        """Encode once, for the search and for the scores."""
        prompts = {name: batch[name] for name in _ENCODER if name in batch}
        outputs, mask = self._model.encode(batch, **prompts)
        hidden = outputs.last_hidden_state
        # A search with beams changes the outputs that it is given.
        return lambda: {
            "encoder_outputs": BaseModelOutput(last_hidden_state=hidden),
            "attention_mask": mask,
        }

    def _scores(
        self, read: Callable[[], dict[str, Any]], tokens: Tensor, prompts: Sequence[str]
    ) -> list[float]:
        """Return the log-probability of each text by its length, as beams are compared."""
        counted = counted_tokens(
            tokens,
            prompts=prompt_lengths(prompts, processor=self._processor),
            ends=_ids(self._option("eos_token_id")),
            filler=_ids(self._option("pad_token_id")),
        )
        beams = int(self._option("num_beams") or 1)
        power = float(self._option("length_penalty") or 0.0) if beams > 1 else 1.0
        copies = len(tokens) // len(read()["attention_mask"])
        totals = torch.empty(len(tokens))
        for copy in range(copies):
            rows = slice(copy, None, copies)
            totals[rows] = log_probabilities(self._model, read(), tokens[rows], counted[rows])
        scores: list[float] = (totals / counted.sum(dim=1).clamp(min=1).cpu() ** power).tolist()
        return scores

    def _moved(self, tensor: Tensor) -> Tensor:
        dtype = self._model.dtype if tensor.is_floating_point() else None
        return tensor.to(self._model.device, dtype=dtype)

    def _option(self, name: str) -> Any:
        return self._options.get(name, getattr(self._model.generation_config, name))


def counted_tokens(
    tokens: Tensor, *, prompts: Sequence[int], ends: Sequence[int], filler: Sequence[int]
) -> Tensor:
    """Say which of ``tokens[:, 1:]`` were written: after the prompt, up to the end and with it."""
    after = tokens[:, 1:]
    places = torch.arange(after.shape[1], device=tokens.device)
    begun = places >= torch.tensor(prompts, device=tokens.device)[:, None]
    end = torch.isin(after, torch.tensor(ends, device=tokens.device)) & begun
    ended = end.cumsum(dim=1) > end.long()
    filled = torch.isin(after, torch.tensor(filler, device=tokens.device)) & ~end
    counted: Tensor = begun & ~ended & ~filled
    return counted


def log_probabilities(
    model: Any, inputs: Mapping[str, Any], tokens: Tensor, counted: Tensor
) -> Tensor:
    """Return for each row the sum of what the model gives to its counted tokens.

    One pass over what was written needs less memory than the scores of each step of the search.
    """
    logits = model(**inputs, decoder_input_ids=tokens[:, :-1], use_cache=False).logits
    sums = [
        -nn.functional.cross_entropy(row.float()[kept], targets[kept], reduction="sum")
        for row, targets, kept in zip(logits, tokens[:, 1:], counted, strict=True)
    ]
    return torch.stack(sums).cpu()


def _ids(value: int | Sequence[int] | None) -> list[int]:
    if value is None:
        return []
    return [value] if isinstance(value, int) else list(value)
