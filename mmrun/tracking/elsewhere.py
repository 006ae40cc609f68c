"""Points that wait in this folder although an attempt in another one has logged them again.

A killed process leaves points that were not sent. Whoever goes on in another folder cannot know
them, does their steps again and sends its own, with other time stamps: the store would show both.
"""

import math
from collections import defaultdict
from collections.abc import Sequence

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
        self._stored: dict[str, dict[int, list[float]]] = {}

    def forget(self) -> None:
        """Ask the store anew from now on: it may have got more."""
        self._stored.clear()

    def has(self, point: Point) -> bool:
        """Whether the store would show ``point`` twice. Another value at its step is history."""
        if point.step < self._from_step:
            return False
        if point.key not in self._stored:
            self._stored[point.key] = self._ask(point.key)
        return any(repeats(point, value) for value in self._stored[point.key].get(point.step, ()))

    def _ask(self, key: str) -> dict[int, list[float]]:
        values: dict[int, list[float]] = defaultdict(list)
        for stored in self._store.history(self._run_id, key):
            values[stored.step].append(stored.value)
        return values
