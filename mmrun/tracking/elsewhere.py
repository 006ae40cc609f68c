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

    def forget(self) -> None:
        """Ask the store anew from now on: it may have got more."""
        self._newest = None
        self._stored.clear()

    def has(self, point: Point) -> bool:
        """Whether the store would show ``point`` twice. Another value at its step is history."""
        if point.step < self._from_step:
            return False
        if self._newest is None:
            self._newest = self._store.read(self._run_id).newest
        newest = self._newest.get(point.key)
        if newest is None or newest.step < point.step:
            return False
        known = self._stored.get(point.key)
        if known is None or point.step < known.first:
            known = self._stored[point.key] = self._ask(point, last=newest.step)
        return any(repeats(point, value) for value in known.values.get(point.step, ()))

    def _ask(self, point: Point, *, last: int) -> "_Stretch":
        """Read what follows too: the points that come next are mostly of later steps."""
        values: dict[int, list[float]] = defaultdict(list)
        for stored in self._store.between(self._run_id, point.key, first=point.step, last=last):
            values[stored.step].append(stored.value)
        return _Stretch(point.step, values)


class _Stretch(NamedTuple):
    """The values that the store has of a metric from a step on."""

    first: int
    values: Mapping[int, Sequence[float]]
