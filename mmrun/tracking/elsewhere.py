"""Points that wait in this folder although an attempt in another one has logged them again.

A killed process leaves points that were not sent. Whoever goes on in another folder cannot know
them, does their steps again and sends its own, with other time stamps: the store would show both.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmrun.tracking.attempts import repeats
from mmrun.tracking.journal import Journal
from mmrun.tracking.store import Point, RunStore


class Elsewhere:
    """What attempts in other folders have put in the store; without such, nothing is asked."""

    def __init__(
        self, store: RunStore, run_id: str, journal: Journal, *, lineage: Sequence[tuple[int, int]]
    ) -> None:
        """Take the attempts so far, and from which step each of them began."""
        here = journal.attempts()
        self._from_step = min(
            (step for attempt, step in lineage if attempt not in here), default=math.inf
        )
        self._store = store
        self._run_id = run_id
        self._newest: Mapping[str, Point] | None = None
        self._stored: dict[str, _Stretch] = {}

    def widen(self, from_step: int) -> None:
        """Look for points of this step on, whoever may have sent them."""
        self._from_step = min(self._from_step, from_step)

    def forget(self) -> None:
        """Ask the store anew from now on: it may have got more."""
        self._newest = None
        self._stored.clear()

    def find(self, point: Point) -> Point | None:
        """Return what makes the store show ``point`` twice. Another value at its step does not."""
        if point.step < self._from_step:
            return None
        if self._newest is None:
            self._newest = self._store.read(self._run_id).newest
        newest = self._newest.get(point.key)
        if newest is None or newest.step < point.step:
            return None
        known = self._stored.get(point.key)
        if known is None or point.step < known.first:
            known = self._stored[point.key] = self._ask(point, last=newest.step)
        there = known.points.get(point.step, ())
        return next((one for one in there if repeats(point, one.value)), None)

    def _ask(self, point: Point, *, last: int) -> "_Stretch":
        """Read what follows too: the points that come next are mostly of later steps."""
        points: dict[int, list[Point]] = defaultdict(list)
        for stored in self._store.between(self._run_id, point.key, first=point.step, last=last):
            points[stored.step].append(stored)
        return _Stretch(point.step, points)


class _Stretch(NamedTuple):
    """What the store has of a metric from a step on."""

    first: int
    points: Mapping[int, Sequence[Point]]
