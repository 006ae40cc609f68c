"""What the order of an epoch is made from; an epoch that was begun keeps its own."""

from typing import Any, NamedTuple, Self

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from mmrun.data.sampler import Order, sequential, shuffled
from mmrun.training.position import Position


class Ordering(NamedTuple):
    """A seed, a strategy, and how many samples of like length are put together, if any are."""

    seed: int
    strategy: str
    group: int

    @classmethod
    def of(cls, arguments: Any, *, batch: int) -> Self:
        """Return what the training's arguments ask for; ``batch`` is over all processes."""
        seed = arguments.seed if arguments.data_seed is None else arguments.data_seed
        return cls(
            seed=seed,
            strategy=str(arguments.train_sampling_strategy),
            group=batch * int(arguments.gradient_accumulation_steps),
        )

    def kept_from(self, before: Position) -> Self:
        """Return what the epoch was begun with; this one stands in for what is not recorded."""
        return self._replace(
            seed=self.seed if before.order_seed is None else before.order_seed,
            strategy=before.sampling or self.strategy,
            group=before.length_group or self.group,
        )

    def order(self, dataset: Any) -> Order:
        """Return the order of the samples in ``dataset``."""
        if self.strategy == "random":
            return shuffled(len(dataset))
        if self.strategy == "sequential":
            return sequential(len(dataset))
        lengths = dataset.lengths
        return lambda generator: torch.tensor(
            get_length_grouped_indices(lengths, self.group, generator=generator)
        )
