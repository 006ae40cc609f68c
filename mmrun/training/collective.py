"""What all processes of a training do together, at the same step; alone it costs nothing."""

from typing import Any, TypeVar

import torch
from torch import distributed

Share = TypeVar("Share")


def agreed(own: str | None, *, device: torch.device) -> str | None:
    """Return the reason to stop that any of the processes has."""
    if not _several():
        return own
    wished = torch.tensor(int(own is not None), device=device)
    distributed.all_reduce(wished, op=distributed.ReduceOp.MAX)
    if not wished.item():
        return None
    reasons: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(reasons, own)
    return next(reason for reason in reasons if reason is not None)


def summed(own: int, *, device: torch.device) -> int:
    """Return the sum of what all processes have."""
    if not _several():
        return own
    total = torch.tensor(own, device=device)
    distributed.all_reduce(total)
    return int(total)


def gathered(own: Share) -> list[Share] | None:
    """Return what each process has, in their order; None in every process but the first."""
    if not _several():
        return [own]
    first = distributed.get_rank() == 0
    shares: list[Any] | None = [None] * distributed.get_world_size() if first else None
    distributed.gather_object(own, shares)
    return shares


def _several() -> bool:
    return distributed.is_initialized() and distributed.get_world_size() > 1
