"""The loss of an evaluation, which depends on the rows and not on how they are put in batches."""

import torch

from mmrun.data.collator import IGNORED
from mmrun.training.collective import summed


class MeanLoss:
    """Means of batches, each weighed by the labels that it is the mean of."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._labels = 0

    def add(self, loss: torch.Tensor | None, labels: torch.Tensor) -> None:
        """Take the mean ``loss`` over a batch with ``labels`` ``[B, L]``."""
        counted = int((labels != IGNORED).sum())
        if loss is not None and counted:
            self._sum += float(loss) * counted
            self._labels += counted

    def value(self, *, device: torch.device) -> float | None:
        """Return the mean over all processes; None where no label counted."""
        labels = summed(self._labels, device=device)
        return summed(self._sum, device=device) / labels if labels else None
