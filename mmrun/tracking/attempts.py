"""What each attempt of a run did, what it did again, and what changed; no I/O."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, Protocol, Self

from mmrun.errors import TrackingError
from mmrun.tracking.attempts_table import KEPT, Row
from mmrun.tracking.replay import Change, Changes, Divergence, Explanation, replay_tag
from mmrun.tracking.store import Point

FORMAT = 1
Decision = Literal["log", "confirm", "diverge"]
Ranges = Mapping[str, Sequence[Sequence[int]]]
"""By metric, the first and the last step that an attempt confirmed, and a time stamp of there.

That is of what it met: a point that one earlier attempt had logged. Old records have none.
"""
PROCESSES = "processes"
"""What is changed, among settings, by another number of processes: a step is of other samples."""

BESIDE = "mmrun/"
"""Begins the metrics that threads beside the training log, also for steps that are over."""

_OF_THE_MACHINE = frozenset(
    {
        "training.output_dir",
        "training.overwrite_output_dir",
        "training.logging_dir",
        "training.resume_from_checkpoint",
        "tracking.uri",
        "setup.output_dir",
        "setup.do_dataset",
        "setup.do_processor",
        "setup.do_model",
        "setup.update_config",
        "setup.check_files",
        "data.cache",
        "data.cache_dir",
        "data.cache_size_mb",
    }
)


class Start(NamedTuple):
    """Where and when an attempt began: one entry of a run's lineage."""

    attempt: int
    from_step: int
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One launch that worked on a run; kept as ``attempts/<attempt>.json``."""

    attempt: int
    run_id: str
    from_step: int
    started_ms: int
    config: Mapping[str, Any]
    """The full experiment, secrets masked."""
    host: str
    pid: int
    """Of the first process."""
    processes: int = 1
    lineage: tuple[Start, ...]
    """All attempts up to this one."""
    to_step: int | None = None
    ended_ms: int | None = None
    offline: bool = False
    """Whether it asked no server; the store was told later."""
    ended: str | None = None
    """Why it ended: finished, failed, killed, stopped; None while it runs, or when it just died."""
    started_from: str | None = None
    """The checkpoint that was loaded, as RUN@STEP.a<k> or a path."""
    overrides: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    """What differs from the attempt before, as (old, new)."""
    versions: Mapping[str, str] = field(default_factory=dict)
    git: str | None = None
    data_version: str | None = None
    changes: Changes = field(default_factory=dict)
    """What this attempt and those before changed."""
    confirmed: Ranges = field(default_factory=dict)
    diverged: int = 0
    """Points of the overlap that came out otherwise than before."""
    diverged_at: int | None = None
    """The first step of those."""
    earlier: tuple[Row, ...] = ()
    """What the table of attempts says of those before; the oldest may be left out."""
    replay: str | None = None
    """What the tag ``mmrun.replay`` says, of this attempt and those before."""
    latest_ms: int = 0
    """The newest time stamp that it had given when this was written."""
    journaled: int = 0
    """So many bytes of its journal were there, and are in what this says."""
    format: int = FORMAT

    @property
    def parent(self) -> int | None:
        """The attempt of this run whose checkpoint was loaded; None where that is not said."""
        run_id, _, which = (self.started_from or "").partition("@")
        attempt = which.partition(".a")[2]
        return int(attempt) if run_id == self.run_id and attempt.isdigit() else None

    def same_as(self, other: "AttemptRecord") -> bool:
        """Whether both are of the same process, at whatever time they were written."""
        mine = (self.attempt, self.started_ms, self.host, self.pid)
        return mine == (other.attempt, other.started_ms, other.host, other.pid)

    def of_run(self, run_id: str, *, formerly: str) -> "AttemptRecord":
        """Return the record of a run that got another id."""
        started_from = self.started_from
        if started_from is not None:
            started_from = started_from.replace(f"{formerly}@", f"{run_id}@")
        return replace(self, run_id=run_id, started_from=started_from)

    @property
    def row(self) -> Row:
        """What the table of attempts says of this one."""
        return Row(
            attempt=self.attempt,
            from_step=self.from_step,
            to_step=self.to_step,
            ended=self.ended,
            host=self.host,
            started_ms=self.started_ms,
            ended_ms=self.ended_ms,
            changed=self.overrides,
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """The table of attempts up to this one; of an older record, what its lineage knows."""
        known = {row.attempt: row for row in self.earlier}
        before = [
            known.get(start.attempt) or Row.unknown(*start)
            for start in self.lineage
            if start.attempt < self.attempt
        ]
        return (*before, self.row)[-KEPT:]

    def to_json(self) -> str:
        """Return the record as JSON that people can read."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"
        # A path that is no UTF-8 has halves of characters, which JSON writes as it writes them.
        return text.encode(errors="backslashreplace").decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record; one of a newer format is refused."""
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise TrackingError(
                    f"an attempt's record has format {content['format']}, not {FORMAT}",
                    hint="use the version of mmrun that wrote it, or a newer one",
                )
            content["lineage"] = tuple(Start(*entry) for entry in content["lineage"])
            content["overrides"] = {k: (old, new) for k, (old, new) in content["overrides"].items()}
            content["earlier"] = tuple(map(Row.read, content.get("earlier", ())))
            content["changes"] = {
                key: tuple(Change(*one) for one in made)
                for key, made in content.get("changes", {}).items()
            }
            return cls(**content)
        except (ValueError, KeyError, TypeError) as error:
            raise TrackingError(f"an attempt's record cannot be read: {error!r}") from error


def with_divergences(record: AttemptRecord, divergences: Sequence[Divergence]) -> AttemptRecord:
    """Return the record of an attempt that met these too; what it said of earlier ones stays."""
    steps = [found.step for found in divergences]
    if record.diverged_at is not None:
        steps.append(record.diverged_at)
    return replace(
        record,
        diverged=record.diverged + len(divergences),
        diverged_at=min(steps, default=None),
        replay=replay_tag(divergences, before=record.replay),
    )


def in_time(points: Sequence[Point], *, attempt: int, starts: Sequence[Start]) -> Sequence[Point]:
    """Return what ``attempt`` logged with time stamps that are its own and no later attempt's.

    A machine that was cut off goes on for a while after another one has taken the run over; what
    it logs then would be told to be that one's.
    """
    end_ms = min((one.started_ms for one in starts if one.attempt > attempt), default=None)
    if end_ms is None or all(point.timestamp_ms < end_ms for point in points):
        return points
    return [p._replace(timestamp_ms=min(p.timestamp_ms, end_ms - 1)) for p in points]


def is_timing(key: str) -> bool:
    """Tell metrics that measure the machine, and so differ each time, from the others."""
    return key.startswith(BESIDE) or key.endswith(("_runtime", "_per_second"))


def repeats(point: Point, value: float) -> bool:
    """Whether ``point`` tells nothing new where ``value`` was logged for its metric and step."""
    same = point.value == value or (math.isnan(point.value) and math.isnan(value))
    return same or is_timing(point.key)


class Stored(Protocol):
    """Points of the store that are still being read."""

    @property
    def last_steps(self) -> Mapping[str, int]:
        """By metric, the step up to which there is something."""
        ...

    @property
    def whole(self) -> bool:
        """Whether all of them could be read, when that is over."""
        ...

    def wait(self) -> Sequence[Point]:
        """Return the points once they are here, as far as they could be read."""
        ...


class Overlap:
    """What earlier attempts logged from the step on where this one starts.

    Holds the memory of what was confirmed, for the attempt's record.
    """

    def __init__(
        self,
        earlier: Iterable[Point],
        *,
        from_step: int,
        explanation: Explanation | None = None,
        stored: Stored | None = None,
    ) -> None:
        """Take the points of earlier attempts, the step of the checkpoint, and what was changed.

        Of several values for one step the newest counts: it is what a reader of the history sees.
        What is ``stored`` is waited for when a point comes that may be among it.
        """
        self._from_step = from_step
        self._stored = stored
        self._earlier = self._newest(earlier)
        to_come = stored.last_steps.values() if stored is not None else ()
        self._last_step: int = max([-1, *(step for _, step in self._earlier), *to_come])
        self._explanation = explanation or Explanation()
        self._confirmed: set[tuple[str, int]] = set()
        self._ranges: dict[str, list[list[int]]] = {}
        self._changed: set[str] = set()
        self._met_again: dict[str, list[Sequence[int]]] = {}
        self.divergences: list[Divergence] = []
        self.unknown = range(0)
        """Steps for which the store may have more than could be read."""

    def is_over(self, step: int) -> bool:
        """Whether no earlier attempt has logged anything for ``step`` or a later one."""
        return step > self._last_step

    def decide(self, point: Point) -> Decision:
        """Say whether ``point`` is new, known already, or differs from what was logged.

        "confirm" is not to be logged again; "diverge" is logged, and counted. A timing metric that
        is there already stays as it was.
        """
        if self._stored is not None and point.step <= self._stored.last_steps.get(point.key, -1):
            self._earlier = self._newest([*self._earlier.values(), *self._stored.wait()])
            if not self._stored.whole:
                self.unknown = range(self._from_step, self._last_step + 1)
            self._stored = None
            self._changed.update(key for key, _ in self._confirmed)
        place = (point.key, point.step)
        earlier = self._earlier.get(place)
        if earlier is None:
            return "log"
        if repeats(point, earlier.value):
            self._confirmed.add(place)
            self._changed.add(point.key)
            return "confirm"
        because = self._explanation.of(earlier)
        self.divergences.append(
            Divergence(point.key, point.step, earlier.value, point.value, because)
        )
        return "diverge"

    def earlier(self, point: Point) -> Point:
        """Return what is known to have been logged before ``point``; "confirm" was decided."""
        return self._earlier[point.key, point.step]

    def meet_again(self, points: Iterable[Point]) -> None:
        """Take note of points that the store had all the same, as was found when they were sent."""
        for point in points:
            self._met_again.setdefault(point.key, []).append(
                [point.step, point.step, point.timestamp_ms]
            )

    def confirmed(self) -> dict[str, list[Sequence[int]]]:
        """Return by metric the ranges of steps that were confirmed, each of one attempt.

        A range never spans a logged step that was not. Only metrics with news are looked through.
        """
        changed, self._changed = self._changed, set()
        self._ranges |= {key: [] for key in changed}
        open_ranges: dict[str, int] = {}  # by metric, the attempt that is met
        for key, step in sorted(place for place in self._earlier if place[0] in changed):
            met = self._earlier[key, step]
            logged_in = self._explanation.attempt_of(met)
            if (key, step) not in self._confirmed:
                open_ranges.pop(key, None)
            elif open_ranges.get(key) == logged_in:
                self._ranges[key][-1][1] = step
            else:
                self._ranges[key].append([step, step, met.timestamp_ms])
                open_ranges[key] = logged_in
        ranges: dict[str, list[Sequence[int]]] = {
            key: [list(one) for one in known] for key, known in self._ranges.items()
        }
        for key, met_again in self._met_again.items():
            ranges[key] = [*ranges.get(key, []), *met_again]
        return ranges

    def _newest(self, points: Iterable[Point]) -> dict[tuple[str, int], Point]:
        by_time = sorted(points, key=lambda point: point.timestamp_ms)
        return {
            (point.key, point.step): point for point in by_time if point.step >= self._from_step
        }


def changes(
    old: Mapping[str, str], new: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """Return what differs between two flat configurations, as (old, new).

    What belongs to a machine is left out: output folders, the tracking URI, what ``setup`` is to
    do, and a path that only lies in another folder.
    """
    return {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if key not in _OF_THE_MACHINE and not _equivalent(old.get(key), new.get(key))
    }


def _equivalent(old: str | None, new: str | None) -> bool:
    if old is None or new is None or old == new:
        return old == new
    either_absolute = old.startswith(("/", "~")) or new.startswith(("/", "~"))
    return either_absolute and PurePosixPath(old).name == PurePosixPath(new).name
