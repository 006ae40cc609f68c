"""What comes of generating: the scores of texts, and the texts of several calls as one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.generation.utils import GenerateEncoderDecoderOutput


def mean_scores(written: Any, *, ends: Sequence[int], room: Tensor | None = None) -> Tensor | None:
    """Return the mean log-probability of the tokens of each text, its end included.

    Args:
        written: What ``generate`` gave back; without scores there is no mean.
        ends: Tokens that end a text.
        room: How many tokens a sample has room for, where not as many as there are steps.
    """
    if not written.scores:
        return None
    steps = len(written.scores)
    tokens = written.sequences[:, -steps:]
    chosen = [
        scores.log_softmax(dim=-1).gather(1, tokens[:, step, None])
        for step, scores in enumerate(written.scores)
    ]
    ended = torch.isin(tokens, tokens.new_tensor(list(ends))).long()
    counts = ended.cumsum(dim=1) - ended == 0
    if room is not None:
        of_rows = room.repeat_interleave(len(tokens) // len(room))[:, None]
        counts &= torch.arange(steps, device=tokens.device) < of_rows
    return torch.cat(chosen, dim=1).where(counts, 0).sum(dim=1) / counts.sum(dim=1)


def joined(written: Sequence[Any], groups: Sequence[Tensor], *, pad: int) -> Any:
    """Put the texts of several calls back in order, filled up on the right.

    Args:
        written: What each call gave back; of an object only texts and their scores are kept.
        groups: The numbers of the samples in each call.
        pad: What fills up.
    """
    if isinstance(written[0], Tensor):
        return _in_order(_same_width(written, pad=pad), groups)
    texts = [one.sequences for one in written]
    sequences: Any = _in_order(_same_width(texts, pad=pad), groups)
    result = GenerateEncoderDecoderOutput(sequences=sequences)
    scores: Any = [one.sequences_scores for one in written]
    if scores[0] is not None:
        vars(result)["sequences_scores"] = _in_order(scores, groups)
    return result


def _same_width(texts: Sequence[Tensor], *, pad: int) -> list[Tensor]:
    longest = max(tokens.shape[1] for tokens in texts)
    return [
        torch.nn.functional.pad(tokens, (0, longest - tokens.shape[1]), value=pad)
        for tokens in texts
    ]


def _in_order(parts: Sequence[Tensor], groups: Sequence[Tensor]) -> Tensor:
    """Return the rows of all parts in the order of the samples; a sample may have several rows."""
    copies = len(parts[0]) // len(groups[0])
    rows = torch.cat([part.unflatten(0, (-1, copies)) for part in parts])
    return rows[torch.cat(list(groups)).argsort()].flatten(0, 1)
