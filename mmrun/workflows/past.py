"""What the earlier attempts of a run left behind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmrun.checkpoints.at_once import at_once
from mmrun.checkpoints.policy import Lineage
from mmrun.config.loading import Override, flat_tree, load_experiment
from mmrun.config.schema import Experiment
from mmrun.errors import TrackingError
from mmrun.tracking.attempts import AttemptRecord, Start, in_time
from mmrun.tracking.history import Trail, effective_history, trail_of
from mmrun.tracking.journal import CARRIED, read_confirmed, read_journals
from mmrun.tracking.run_file import RunFile
from mmrun.tracking.store import Point, Run, RunStore
from mmrun.tracking.tail import last_step
from mmrun.workflows.records import all_records, last_record
from mmrun.workflows.which_fork import Origin


@dataclass(frozen=True, kw_only=True)
class Past:
    """The attempts so far; ``last`` is None before the first one."""

    last: AttemptRecord | None = None
    lineage: tuple[tuple[int, int], ...] = ()

    @property
    def starts(self) -> tuple[Start, ...]:
        """The attempts so far; without a record in their order, before all time stamps."""
        if self.last is not None:
            return self.last.lineage
        return tuple(Start(attempt, step, n) for n, (attempt, step) in enumerate(self.lineage))

    @property
    def known_starts(self) -> tuple[Start, ...]:
        """Those of which it is known when they were: others have numbers in place of times."""
        return _known(self.last.lineage) if self.last is not None else ()

    @property
    def last_ms(self) -> int:
        """The latest time stamp in the record of the attempts."""
        if self.last is None:
            return 0
        times = [start.started_ms for start in self.last.lineage]
        return max([*times, self.last.ended_ms or 0, self.last.latest_ms])

    @property
    def attempts(self) -> int:
        """How many there were."""
        return max((attempt for attempt, _ in self.lineage), default=0)

    @cached_property
    def flat_config(self) -> dict[str, str]:
        """The configuration of the last attempt, flat; empty before the first one."""
        return flat_tree(self.last.config) if self.last is not None else {}

    def reached(self, journal: Path) -> int:
        """Return the last step that is known to have been done."""
        recorded = self.last.to_step if self.last is not None else None
        begun = (step for _, step in self.lineage)
        return max([recorded or 0, last_step(journal), *begun])

    def experiment(self, overrides: Sequence[Override]) -> Experiment:
        """Return the configuration of the last attempt with ``overrides`` on top."""
        if self.last is None:
            raise TrackingError(
                "the run has no recorded configuration to go on with",
                hint="name the experiment file with --config_path",
            )
        return load_experiment(None, overrides=overrides, base=self.last.config)


def _known(lineage: Iterable[Start]) -> tuple[Start, ...]:
    return tuple(start for start in lineage if start.started_ms > start.attempt)


def read_past(store: RunStore, run: Run, run_file: RunFile | None) -> Past:
    """Read what the store and the folder know of the run's attempts."""
    last = last_record(store, run.run_id)
    known = dict(run_file.lineage) if run_file and run_file.run_id == run.run_id else {}
    if last is not None:
        known |= {attempt: step for attempt, step, _ in last.lineage}
    return Past(last=last, lineage=tuple(sorted(known.items())))


def source_past(past: Past, *, store: RunStore, origin: Origin | None) -> Past:
    """Return what the next attempt is compared with: of a fork's first one, that is the source."""
    if past.last is not None or origin is None:
        return past
    return read_past(store, store.read(origin.run_id), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """Every point that attempts of a run logged, and what is needed to tell which of them count."""

    points: Sequence[Point]
    trail: Trail

    def effective(self, *, until: int | None = None) -> list[Point]:
        """Return what counts on the way to the last attempt, or to the attempt ``until``."""
        return effective_history(self.points, self.trail, until=until)


def read_logged(store: RunStore, run: Run, *, journal: Path) -> Logged:
    """Read what the store has of a run and, where ``journal`` is its, what waits there."""
    trail = trail_of(all_records(store, run.run_id), journaled=read_confirmed(journal))
    points = earlier_points(store=store, run=run, journal=journal, starts=_known(trail.lineage))
    return Logged(points=points, trail=trail)


def read_journaled(journal: Path, *, lineage: Lineage) -> Logged:
    """Read what this disk alone knows; an attempt begins with the first point that it logged."""
    by_attempt = read_journals(journal)
    starts = [
        Start(attempt, from_step, min(point.timestamp_ms for point in by_attempt[attempt]))
        for attempt, from_step in lineage
        if by_attempt.get(attempt)
    ]
    points = [point for points in by_attempt.values() for point in points]
    return Logged(points=points, trail=Trail(lineage=starts, confirmed=read_confirmed(journal)))


def earlier_points(
    *, store: RunStore, run: Run, journal: Path, starts: Sequence[Start] = ()
) -> list[Point]:
    """Return what was logged so far: in the store, and here but not yet sent."""
    histories = at_once(lambda key: store.history(run.run_id, key), run.metrics)
    stored = (point for history in histories for point in history)
    journaled = (
        point
        for attempt, points in read_journals(journal).items()
        for point in in_time(points, attempt=attempt, starts=() if attempt == CARRIED else starts)
    )
    return list({repr(point): point for point in (*stored, *journaled)}.values())
