"""What is said of an attempt that died and could not say how it ended."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mmrun.tracking.attempts import AttemptRecord, with_divergences
from mmrun.tracking.history import merged
from mmrun.tracking.tail import read_left

KILLED = "killed"


class Reached(Protocol):
    """A checkpoint: the step at which it was saved, and by which attempt."""

    @property
    def step(self) -> int:
        """The step."""
        ...

    @property
    def attempt(self) -> int:
        """The attempt."""
        ...


def as_killed(last: AttemptRecord, *, journal: Path, saved: Reached | None) -> AttemptRecord:
    """Return the record of an attempt that died, with all that it left on this disk.

    Its record is older than its journal, and only the checkpoint ``saved`` may be here. Whoever
    said it before from another machine knew less; the same again adds nothing.
    """
    left = read_left(journal, attempt=last.attempt, after=last.journaled)
    steps = [last.to_step or 0, left.last_step]
    if saved is not None and saved.attempt == last.attempt:
        steps.append(saved.step)
    closed = replace(
        last,
        ended=KILLED,
        to_step=max(steps) if max(steps) > last.from_step else None,
        confirmed=merged([last.confirmed, left.confirmed]),
        journaled=left.until,
    )
    return with_divergences(closed, left.diverged) if left.diverged else closed
