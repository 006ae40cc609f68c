"""What earlier attempts logged from the step on where the next one begins.

The journals know it where every attempt was in this folder. Else the store is asked, in the
background: a history may be long, and training need not wait before it comes to log something.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrun.checkpoints.at_once import at_once, beside
from mmrun.tracking.store import Point, RunStore, UnreachableError
from mmrun.tracking.tail import read_tail
from mmrun.workflows.past import Past

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""So long the training waits before it says what for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What was logged before, as far as the next attempt must know it."""

    points: Sequence[Point] = ()
    """What this disk has from the step on where it begins."""
    newest_ms: int = 0
    """The latest time stamp that is known of."""
    stored: "StoredPoints | None" = None
    """What the store has beyond that; None where nothing can be missing."""


class StoredPoints:
    """Points of the store from a step on, read by threads of their own."""

    def __init__(
        self, store: RunStore, run_id: str, *, newest: Mapping[str, Point], from_step: int
    ) -> None:
        """Begin to read; ``newest`` is the last point of each metric that the run has."""
        self.last_steps = {
            key: point.step for key, point in newest.items() if point.step >= from_step
        }
        """By metric, the step up to which there is something."""
        self._store = store
        self._run_id = run_id
        self._from_step = from_step
        self._read: dict[str, Sequence[Point]] = {}
        self._over = threading.Event()
        self._result = beside(self._work)

    @property
    def whole(self) -> bool:
        """Whether all of them could be read."""
        return self._read.keys() == self.last_steps.keys()

    def wait(self) -> list[Point]:
        """Return the points once they are read; fewer, with a warning, where the server is away."""
        if not self._over.wait(_PAUSE_S):
            logger.info("what earlier attempts logged is still being read from the store")
        self._result()  # raises what went wrong
        return [point for points in self._read.values() for point in points]

    def _work(self) -> None:
        try:
            at_once(self._read_one, self.last_steps)
        except UnreachableError as away:
            logger.warning(
                "%s; what is logged from step %d on is compared when it is sent",
                away,
                self._from_step,
            )
        finally:
            self._over.set()

    def _read_one(self, key: str) -> None:
        last = self.last_steps[key]
        self._read[key] = self._store.between(self._run_id, key, first=self._from_step, last=last)


def read_earlier(
    store: RunStore, run_id: str, *, past: Past, journal: Path, from_step: int
) -> Earlier:
    """Return what the attempts of ``past`` logged for ``from_step`` and later steps."""
    tail = read_tail(journal, lineage=past.lineage, from_step=from_step, starts=past.known_starts)
    newest = store.read(run_id).newest
    stored_ms = max((point.timestamp_ms for point in newest.values()), default=0)
    # A copy of the folder has all files too, and lacks what the original logged after that.
    whole = tail.whole and stored_ms <= tail.newest_ms
    whole = whole and not _hides_what_is_later(newest, past=past, from_step=from_step)
    return Earlier(
        points=tail.points,
        newest_ms=max(stored_ms, tail.newest_ms, past.last_ms),
        stored=None if whole else StoredPoints(store, run_id, newest=newest, from_step=from_step),
    )


def _hides_what_is_later(newest: Mapping[str, Point], *, past: Past, from_step: int) -> bool:
    """Whether the last attempt may have logged more than the newest points tell.

    They are those of the last step, which an attempt before it may have done.
    """
    begun_ms = past.last.started_ms if past.last is not None else None
    return any(
        begun_ms is None or point.timestamp_ms < begun_ms
        for point in newest.values()
        if point.step >= from_step
    )
