"""What counts of everything that the attempts of a run logged; no I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmrun.tracking.attempts import AttemptRecord, Ranges, Start
from mmrun.tracking.store import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """The attempts of a run, which of them led to which, and what they met again."""

    lineage: Sequence[Start]
    confirmed: Mapping[int, Ranges] = field(default_factory=dict)
    """By attempt: values that it computed again and that were logged before."""
    parents: Mapping[int, int] = field(default_factory=dict)
    """By attempt, the one whose checkpoint it loaded; else that is the one before."""

    def attempt_of(self, point: Point) -> int | None:
        """Return the last attempt that had started at the point's time stamp.

        None is for what is older than the run: a fork has it from its source.
        """
        return self._attempt_at(point.timestamp_ms)

    def _attempt_at(self, time_ms: int) -> int | None:
        begun = [start for start in self.lineage if start.started_ms <= time_ms]
        return max(begun, key=lambda start: start.started_ms).attempt if begun else None

    def path_to(self, attempt: int | None = None) -> Sequence[Start]:
        """Return ``attempt``, by default the last one, and those that led to it, newest first."""
        known = {start.attempt: start for start in self.lineage}
        at = max((n for n in known if attempt is None or n <= attempt), default=None)
        path = []
        while at is not None:
            path.append(known[at])
            before = [number for number in known if number < at]
            parent = self.parents.get(at)
            at = parent if parent in before else max(before, default=None)
        return path

    def confirms(self, attempt: int, point: Point) -> bool:
        """Whether ``attempt`` computed the value of an older point again.

        Of several attempts that logged the step it met one; what others did may have come later.
        """
        ranges = self.confirmed.get(attempt, {}).get(point.key, ())
        return any(
            first <= point.step <= last and self._same_attempt(point, *at)
            for first, last, *at in ranges
        )

    def _same_attempt(self, point: Point, met_ms: int | None = None) -> bool:
        """Whether what had the time stamp ``met_ms``, which old records lack, is its attempt's."""
        return met_ms is None or self._attempt_at(met_ms) == self.attempt_of(point)


def trail_of(records: Iterable[AttemptRecord], *, journaled: Mapping[int, Ranges]) -> Trail:
    """Put together what the records say, and what journals on this disk know beyond that.

    A process that was killed had confirmed more than its record has.
    """
    kept = list(records)
    recorded = {record.attempt: record.confirmed for record in kept}
    confirmed = {
        attempt: merged([recorded.get(attempt, {}), journaled.get(attempt, {})])
        for attempt in recorded.keys() | journaled.keys()
    }
    return Trail(
        lineage=sorted({start for record in kept for start in record.lineage}),
        confirmed=confirmed,
        parents={record.attempt: record.parent for record in kept if record.parent is not None},
    )


def merged(confirmed: Iterable[Ranges]) -> dict[str, list[Sequence[int]]]:
    """Return by metric all ranges of steps that one of ``confirmed`` has."""
    together: dict[str, list[Sequence[int]]] = defaultdict(list)
    for by_key in confirmed:
        for key, ranges in by_key.items():
            together[key] += ranges
    return dict(together)


def effective_history(
    points: Iterable[Point], trail: Trail, *, until: int | None = None
) -> list[Point]:
    """Return, per metric and step, the value of the last attempt that did that step.

    Only the attempts count that led to the last one, or to the attempt ``until``. Of the others,
    and of what was done again, a point counts if who did the step confirmed it. One that died
    before it came to that step takes nothing away. The result is in the order of metric, step.
    """
    path = trail.path_to(until)
    on_path = {start.attempt for start in path}
    newest: dict[tuple[str, int], Point] = {}
    for point in points:
        author = trail.attempt_of(point)
        doer = next((start.attempt for start in path if start.from_step < point.step), None)
        if author is None or (doer is not None and author < doer):
            counts = doer is None or trail.confirms(doer, point)
        else:
            counts = author in on_path
        known = newest.get((point.key, point.step))
        if counts and (known is None or known.timestamp_ms <= point.timestamp_ms):
            newest[point.key, point.step] = point
    return sorted(newest.values(), key=lambda point: (point.key, point.step))
