"""How many samples did not count, because their signals could not be read."""

import torch

from mmrun.data.collator import IGNORED
from mmrun.training.collective import summed


class SkippedSamples:
    """Counts over batches, attempts and processes."""

    def __init__(self) -> None:
        self._earlier = 0
        self._here: torch.Tensor | int = 0

    def go_on(self, earlier: int) -> None:
        """Begin at what ``earlier`` attempts had counted."""
        self._earlier = earlier

    def count(self, labels: torch.Tensor) -> None:
        """Count the rows of a batch ``[B, L]`` of which no label counts; nothing is waited for."""
        self._here = self._here + (labels == IGNORED).all(dim=1).sum()

    @property
    def here(self) -> int:
        """Those of this process, in this attempt."""
        return int(self._here)

    def total(self, *, device: torch.device) -> int:
        """Return those of all processes and attempts; all processes ask for it together."""
        return self._earlier + summed(self.here, device=device)
