"""What is said of an attempt that died and could not say how it ended."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mmrun.tracking.attempts import AttemptRecord, with_divergences
from mmrun.tracking.journal import read_confirmed, read_diverged, read_journals

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
    """Return the record of an attempt that died, with what it left in its ``journal``.

    Whoever said it before from another machine knew less; the same again adds nothing.
    """
    confirmed = read_confirmed(journal).get(last.attempt)
    closed = replace(
        last,
        ended=KILLED,
        to_step=known_end(last, journal=journal, saved=saved),
        confirmed=confirmed or last.confirmed,
    )
    diverged = read_diverged(journal, attempt=last.attempt)
    return with_divergences(closed, diverged) if diverged else closed


def known_end(last: AttemptRecord, *, journal: Path, saved: Reached | None) -> int | None:
    """Return the last step that an attempt which just died is known to have done; None for none.

    Its record is older than its journal, and only the checkpoint ``saved`` may be here.
    """
    steps = [point.step for point in read_journals(journal).get(last.attempt, ())]
    if saved is not None and saved.attempt == last.attempt:
        steps.append(saved.step)
    known = max([last.to_step or 0, *steps])
    return known if known > last.from_step else None
