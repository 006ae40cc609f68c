"""Prompts of different lengths in one batch: padded on the left, and decoded as if each were alone.

What transformers counts by the width of a batch (positions, least and greatest length, the tokens
that are forced at a place) is counted here from where the text of each row begins.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

GIVEN_PER_BATCH = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn", "streamer")
"""Arguments of ``generate`` that read the rows of a batch as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Options of a generation that depend on how long a text is, its prompt included."""

    limit: int | None
    least: int | None = None
    first: int | None = None
    """The token that is written first, whatever the model says (``forced_bos_token_id``)."""
    last: int | None = None
    """The token that is written where the limit is reached (``forced_eos_token_id``)."""
    ends: tuple[int, ...] = ()


def place_of_positions(decoder: nn.Module) -> str | None:
    """Return how ``decoder`` can be told where a row begins; None where it cannot.

    ``relative`` ones need not be told, ``ids`` take the numbers of positions, of a ``table`` the
    rows can be chosen.
    """
    layer = getattr(decoder, "embed_positions", None)
    if layer is None:
        relative = any(hasattr(part, "relative_attention_bias") for part in decoder.modules())
        return "relative" if relative else None
    names = inspect.signature(layer.forward).parameters
    if "position_ids" in names:
        return "ids"
    return "table" if {"inputs_embeds", "past_key_values_length"} <= names.keys() else None


def padded_left(prompts: Tensor, lengths: Tensor, *, filler: int) -> tuple[Tensor, Tensor]:
    """Move prompts ``[B, P]`` that are padded on the right to the right; return their mask, too."""
    width = prompts.shape[1]
    places = torch.arange(width, device=prompts.device) - (width - lengths)[:, None]
    mask = (places >= 0).long()
    return prompts.gather(1, places.clamp(min=0)).masked_fill(mask == 0, filler), mask


def moved_back(sequences: Tensor, shifts: Tensor, *, pad: int, limit: int | None) -> Tensor:
    """Take the padding on the left of each row ``[N, W]`` away; what is too long is cut."""
    width = sequences.shape[1]
    places = torch.arange(width, device=sequences.device) + _for_rows(shifts, len(sequences))
    moved = sequences.gather(1, places.clamp(max=width - 1)).masked_fill(places >= width, pad)
    return moved if limit is None else moved[:, :limit]


@contextmanager
def positions_from(decoder: nn.Module, shifts: Tensor, *, limit: int | None) -> Iterator[None]:
    """Let ``decoder`` count positions from the column ``shifts`` of each row, in this block."""
    kind, layer = place_of_positions(decoder), getattr(decoder, "embed_positions", None)
    # A row that is done still runs along; its positions must not leave a table that ends there.
    greatest = None if limit is None else limit - 1

    def numbers(positions: Tensor, rows: int) -> Tensor:
        return (positions - _for_rows(shifts, rows)).clamp(min=0, max=greatest)

    def before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        rows = int(given[0][0] if isinstance(given[0], (tuple, list)) else len(given[0]))
        places = numbers(named["position_ids"], rows)
        # The layers differ in what they make of rows of positions; one row all of them take.
        return given, {**named, "position_ids": places.flatten()}

    def unflattened(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
        rows = int(given[0][0] if isinstance(given[0], (tuple, list)) else len(given[0]))
        return out.reshape(rows, len(named["position_ids"]) // rows, out.shape[-1])

    def chosen(module: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
        bound = inspect.signature(module.forward).bind(*given, **named)
        past = int(bound.arguments.get("past_key_values_length", 0))
        rows, width = out.shape[:2]
        table = module.forward(inputs_embeds=out.new_empty(1, past + width, 1))[0]
        return table[numbers(torch.arange(past, past + width, device=out.device), rows)]

    with ExitStack() as stack:
        if layer is not None and kind == "ids":
            stack.callback(layer.register_forward_pre_hook(before, with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(unflattened, with_kwargs=True).remove)
        elif layer is not None:
            stack.callback(layer.register_forward_hook(chosen, with_kwargs=True).remove)
        yield


class OwnLimit(StoppingCriteria):
    """Ends each row where it would end alone."""

    def __init__(self, shifts: Tensor, limit: int) -> None:
        self._ends = shifts + limit

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        """Tell which rows are done."""
        return input_ids.shape[1] >= _for_rows(self._ends, len(input_ids))[:, 0]


class OwnRules(LogitsProcessor):
    """Applies the rules to each row, by the length that it would have alone."""

    def __init__(self, shifts: Tensor, rules: Rules) -> None:
        self._shifts = shifts
        self._rules = rules

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores with what a rule forbids at minus infinity."""
        rules = self._rules
        lengths = input_ids.shape[1] - _for_rows(self._shifts, len(input_ids))
        if rules.least is not None and rules.ends:
            ends = torch.zeros_like(scores[0], dtype=torch.bool)
            ends[list(rules.ends)] = True
            scores = scores.masked_fill((lengths < rules.least) & ends, -math.inf)
        if rules.first is not None:
            scores = _forced(scores, lengths == 1, token=rules.first)
        if rules.last is not None and rules.limit is not None:
            scores = _forced(scores, lengths == rules.limit - 1, token=rules.last)
        return scores


def rules_of(option: Callable[[str], Any]) -> Rules:
    """Return the rules among the options of a generation."""
    ends = option("eos_token_id")
    ends = ends if isinstance(ends, (list, tuple)) else [ends]
    return Rules(
        limit=None if option("max_new_tokens") is not None else option("max_length"),
        least=option("min_length") or None,
        first=option("forced_bos_token_id"),
        last=option("forced_eos_token_id"),
        ends=tuple(int(end) for end in ends if end is not None and int(end) >= 0),
    )


def own_options(rules: Rules, shifts: Tensor) -> dict[str, Any]:
    """Return the options that let the rules hold for each row, and not for the width of all."""
    options: dict[str, Any] = {"forced_bos_token_id": None, "min_length": 0}
    if rules.limit is not None:
        options["forced_eos_token_id"] = None
        options["max_length"] = rules.limit + int(shifts.max())
        options["stopping_criteria"] = StoppingCriteriaList([OwnLimit(shifts, rules.limit)])
    options["logits_processor"] = LogitsProcessorList([OwnRules(shifts, rules)])
    return options


def needs_one_length(option: Callable[[str], Any], given: Mapping[str, Any]) -> bool:
    """Whether the options have something that counts by the width of the batch."""
    if any(given.get(name) is not None for name in GIVEN_PER_BATCH):
        return True
    if option("max_new_tokens") is None and option("max_length") is None:
        return True
    penalised = (option("repetition_penalty") or 1.0) != 1.0
    endless = option("early_stopping") == "never" and (option("length_penalty") or 0.0) > 0
    fixed = option("cache_implementation") not in (None, "dynamic")
    return bool(penalised or endless or fixed or isinstance(option("forced_eos_token_id"), list))


def _forced(scores: Tensor, rows: Tensor, *, token: int) -> Tensor:
    only = torch.full_like(scores[:1], -math.inf)
    only[:, token] = 0.0
    return scores.where(~rows, only)


def _for_rows(values: Tensor, rows: int) -> Tensor:
    """Return a value a sample as a column of ``rows``: a sample has one row, or one a beam."""
    return values.repeat_interleave(rows // len(values))[:, None]
