"""The loss of an evaluation, which depends on the rows and not on how they are put in batches."""

import torch

from mmrun.data.collator import IGNORED


class MeanLoss:
    """Means of batches, each weighed by the labels that it is the mean of.

    It is that of one process alone: several fill up their last batches with rows that were there
    already, and their losses are not means of their own labels.
    """

    def __init__(self) -> None:
        self._sum = 0.0
        self._labels = 0

    def add(self, loss: torch.Tensor | None, labels: torch.Tensor) -> None:
        """Take the mean ``loss`` over a batch with ``labels`` ``[B, L]``."""
        counted = int((labels != IGNORED).sum())
        if loss is not None and counted:
            self._sum += float(loss) * counted
            self._labels += counted

    @property
    def value(self) -> float | None:
        """The mean over all labels; None where none counted."""
        return self._sum / self._labels if self._labels else None
