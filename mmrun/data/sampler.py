"""Which sample comes when: an order that depends on seed and epoch only, with a position.

The order of an epoch is computed from (seed, epoch) and nothing else, so that it is the same
after a resume, and the position within it is counted in samples, so that a changed batch size
neither repeats nor skips one. An epoch is entered at its position at once: what was trained on is
not even looked at.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from mmrun.data.start import Start

Order = Callable[[torch.Generator], torch.Tensor]
"""From a generator that is seeded for the epoch to the indices of the epoch, ``[size]``."""

_CHUNK = 4096


class Draw(NamedTuple):
    """A sample of the training set, as it comes in one epoch."""

    sample: int
    """Its index in the data set."""
    stream: int
    """Of the epoch: what the sample's random numbers depend on beside the index."""

    def random(self) -> np.random.Generator:
        """Return the sample's own generator: the same in any process, before and after a resume."""
        return np.random.default_rng([self.stream, self.sample])


class EpochSampler(Sampler[Draw]):
    """Draws from a map-style dataset, in an order that belongs to the epoch."""

    def __init__(
        self,
        order: Order,
        *,
        size: int,
        seed: int,
        start: Start | None = None,
        order_of_start: Order | None = None,
        seed_of_start: int | None = None,
        multiple: int = 1,
    ) -> None:
        """Prepare the epochs; the one of ``start`` may have an order and a seed of its own.

        An epoch is filled up with its first samples to a ``multiple``: several processes need
        batches of the same size, and where an epoch was entered must not decide which samples
        fill up the last ones.
        """
        self._order = order
        self._order_of_start = order_of_start or order
        self._size = size
        self._seed = seed
        self._seed_of_start = seed if seed_of_start is None else seed_of_start
        self._start = start
        self._multiple = multiple
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of samples of a whole epoch."""
        return self._filled(self._size)

    def __iter__(self) -> Iterator[Draw]:
        entered = self._start if self._start and self._start.epoch == self._epoch else None
        order = self._order if entered is None else self._order_of_start
        stream = _mixed(self._seed if entered is None else self._seed_of_start, self._epoch)
        generator = torch.Generator()
        generator.manual_seed(stream)
        indices = order(generator)
        rest = indices[entered.done :] if entered is not None else indices
        missing = self._filled(len(rest)) - len(rest)
        filler = indices.repeat(math.ceil(missing / max(len(indices), 1)))[:missing]
        for part in (rest, filler):
            for chunk in part.split(_CHUNK):
                yield from (Draw(index, stream) for index in chunk.tolist())

    def _filled(self, size: int) -> int:
        return math.ceil(size / self._multiple) * self._multiple


def shuffled(size: int) -> Order:
    """Return the order of a uniform permutation."""
    return lambda generator: torch.randperm(size, generator=generator)


def sequential(size: int) -> Order:
    """Return the order in which the samples are stored."""
    return lambda _generator: torch.arange(size)


def _mixed(seed: int, epoch: int) -> int:
    # Neighbours must not share orders: seed 1 of epoch 2 is not seed 2 of epoch 1.
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9) % 2**63
