"""Which sample comes when: an order that depends on seed and epoch only, with a position.

The order of an epoch is computed from (seed, epoch) and nothing else, so that it is the same
after a resume, and the position within it is counted in samples, so that a changed batch size
neither repeats nor skips one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

Order = Callable[[torch.Generator], list[int]]
"""From a generator that is seeded for the epoch to the indices of the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where an epoch is entered in the middle.

    ``fill`` indices stand in for the samples already done: the trainer skips them, in whole
    batches of its own size, without loading them. After them comes sample ``done`` of the epoch.
    """

    epoch: int
    done: int
    fill: int


class EpochSampler(Sampler[int]):
    """Indices of a map-style dataset, in an order that belongs to the epoch."""

    def __init__(
        self,
        order: Order,
        *,
        size: int,
        seed: int,
        start: Start | None = None,
        order_of_start: Order | None = None,
    ) -> None:
        """Prepare the epochs; the one of ``start`` may have an order of its own."""
        self._order = order
        self._order_of_start = order_of_start or order
        self._size = size
        self._seed = seed
        self._start = start
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples of a whole epoch."""
        return self._size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(_mixed(self._seed, self._epoch))
        start = self._start
        if start is None or start.epoch != self._epoch:
            return iter(self._order(generator))
        indices = self._order_of_start(generator)
        return iter([0] * start.fill + indices[start.done :])


def shuffled(size: int) -> Order:
    """Return the order of a uniform permutation."""
    return lambda generator: torch.randperm(size, generator=generator).tolist()


def sequential(size: int) -> Order:
    """Return the order in which the samples are stored."""
    return lambda _generator: list(range(size))


def _mixed(seed: int, epoch: int) -> int:
    # Neighbours must not share orders: seed 1 of epoch 2 is not seed 2 of epoch 1.
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9) % 2**63
