"""Points of metrics on disk first: one append-only file an attempt, readable after any death.

A line is a checksum and the points of one call, or the places that it confirmed: values equal to
those that an earlier attempt had logged. What was sent is an offset in a file beside it. Time
stamps are decided when a point is journaled, so that sending it twice stores it once.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun import faults
from mmrun.errors import TrackingError
from mmrun.files import write_whole
from mmrun.tracking.lines import (
    backwards,
    confirmed_in,
    decoded,
    encoded,
    ends_torn,
    forwards,
    points_in,
)
from mmrun.tracking.replay import Divergence
from mmrun.tracking.store import Point

_NAME = re.compile(r"attempt-(\d+)(\.carried)?\.jsonl")
_LINE = 25
"""So many points that came with a checkpoint make a line: a fork brings a whole history along."""
CARRIED = 0
"""The attempt under which ``read_journals`` lists points that came with a checkpoint."""


class Clock:
    """Time stamps that never go back, neither within an attempt nor over attempts."""

    def __init__(self, *, after_ms: int = 0) -> None:
        self.last_ms = after_ms
        """The time stamp that was given last."""

    def now_ms(self) -> int:
        """Return the time, or one millisecond after the time stamp before if that is later."""
        self.last_ms = max(time.time_ns() // 1_000_000, self.last_ms + 1)
        return self.last_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Points to send, and the offset to acknowledge when they have arrived."""

    points: tuple[Point, ...]
    until: int


class PointLog:
    """One append-only file of checksummed lines, with a mark of what was sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = path.with_suffix(".sent")
        self.sent = min(self._read_mark(), self.size())
        """Up to here the server has everything."""
        self._descriptor: int | None = None
        self._torn = False

    def begin(self) -> None:
        """Make the file, if it is not there."""
        with self._writing():
            self._opened()

    @property
    def waiting(self) -> int:
        """How many bytes the server has not acknowledged; a torn line counts, and is never sent."""
        return max(self.size() - self.sent, 0)

    def append(self, points: Sequence[Point]) -> None:
        """Add one line with ``points``, handed to the system before this returns."""
        self._write(points)  # key, step, time stamp and value of each

    @property
    def carried(self) -> bool:
        """Whether the points came with a checkpoint, and are of other attempts."""
        named = _NAME.fullmatch(self.path.name)
        return named is not None and named[2] is not None

    @property
    def attempt(self) -> int:
        """The attempt that wrote the file."""
        named = _NAME.fullmatch(self.path.name)
        return int(named[1]) if named is not None else 0

    def confirm(self, points: Sequence[Point], *, later: bool = False) -> None:
        """Add one line that says that ``points``, of earlier attempts, came out as they were.

        ``later`` is for what was only found when they were sent; the steps of such a line are not
        in the order of the file.
        """
        places = [[point.key, point.step] for point in points]
        met = [point.timestamp_ms for point in points]
        self._write({"confirmed": places, "met": met, **({"later": True} if later else {})})

    def diverge(self, divergences: Sequence[Divergence]) -> None:
        """Add one line that says which values came out otherwise than they had been logged."""
        # An mmrun that knows nothing of divergences reads what is confirmed in every such line.
        self._write({"confirmed": [], "diverged": divergences})

    def _write(self, content: Any) -> None:
        line = encoded(content)
        with self._writing():
            descriptor = self._opened()
            if self._torn:
                line = b"\n" + line
            self._torn = True  # until the whole line is out
            while line:
                line = line[os.write(descriptor, line) :]
            self._torn = False

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrackingError(
                f"cannot write the metrics journal {self.path}: {error.strerror}",
                hint="make room on the disk; the same command goes on from the last checkpoint",
            ) from error

    def batch(self, *, start: int | None = None, limit: int | None = None) -> Batch:
        """Return what follows ``start``, by default the mark, up to about ``limit`` points."""
        points: list[Point] = []
        until = start = self.sent if start is None else start
        for line, end in forwards(self.path, start=start):
            points += points_in(decoded(line, path=self.path))
            until = end
            if limit is not None and len(points) >= limit:
                break
        return Batch(points=tuple(points), until=until)

    def acknowledge(self, until: int, *, flushed: bool = True) -> None:
        """Remember that the server has everything up to ``until``.

        What is not ``flushed``, a power cut may undo: then it is sent again.
        """
        write_whole(self._mark, str(until), flushed=flushed)
        self.sent = until

    def flush(self) -> None:
        """Make what was written survive a power cut too."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.fsync(self._descriptor)

    def _opened(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._torn = ends_torn(self.path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self.path, flags, 0o644)
        return self._descriptor

    def _read_mark(self) -> int:
        try:
            return int(self._mark.read_text())
        except (OSError, ValueError):
            return 0  # everything is sent again, which is harmless

    def size(self) -> int:
        """Return how many bytes there are."""
        return self.path.stat().st_size if self.path.exists() else 0


class Journal:
    """The points of one attempt, and how many of them the server has."""

    def __init__(self, folder: Path, *, attempt: int) -> None:
        """Open the journal of ``attempt`` in ``folder``, or start it."""
        self.folder = folder
        self.attempt = attempt
        self.own = PointLog(log_path(folder, attempt))
        """What this attempt logs itself."""
        self._carried = PointLog(folder / f"attempt-{attempt}.carried.jsonl")

    def logs(self) -> list[PointLog]:
        """Return the files of all attempts, in the order in which they are to be sent."""
        own = {log.path: log for log in (self._carried, self.own)}
        earlier = [log for log in open_logs(self.folder) if log.path not in own]
        return [*earlier, *own.values()]

    def attempts(self) -> set[int]:
        """Return the attempts that wrote to this folder."""
        return {attempt for attempt, _, _ in found_logs(self.folder)}

    def begin(self) -> None:
        """Make the attempt's file: that it is empty tells that nothing is missing here."""
        self.own.begin()

    def append(self, points: Sequence[Point]) -> None:
        """Write the points of one call; they survive the death of this process."""
        self.own.append(points)

    def confirm(self, points: Sequence[Point]) -> None:
        """Write that these points of earlier attempts were met again."""
        self.own.confirm(points)

    def diverge(self, divergences: Sequence[Divergence]) -> None:
        """Write which values of earlier attempts were not met again; a kill does not undo it."""
        self.own.diverge(divergences)

    def import_unsent(self, points: Iterable[Point]) -> None:
        """Take over points that came with a checkpoint, except those known here."""
        unknown = {repr(point): point for point in points}
        stamps = {point.timestamp_ms for point in unknown.values()}
        for known in _newest(self.folder, not_before_ms=min(stamps)) if stamps else ():
            if known.timestamp_ms in stamps:
                unknown.pop(repr(known), None)
            if not unknown:
                return
        new = list(unknown.values())
        for start in range(0, len(new), _LINE):
            self._carried.append(new[start : start + _LINE])
            faults.reach("journal.carried")

    def unsent(self) -> list[Point]:
        """Return the points that the server is not known to have, of every attempt here."""
        return [point for log in self.logs() for point in log.batch().points]


def log_path(folder: Path, attempt: int) -> Path:
    """Return where an attempt writes what it logs itself."""
    return folder / f"attempt-{attempt}.jsonl"


def open_logs(folder: Path) -> list[PointLog]:
    """Return the journal files in ``folder``, oldest attempt first."""
    return [PointLog(path) for _, _, path in found_logs(folder)]


def read_journals(folder: Path) -> dict[int, list[Point]]:
    """Return all points in ``folder`` by attempt; those that came with a checkpoint at 0."""
    points: dict[int, list[Point]] = {}
    for attempt, carried, path in found_logs(folder):
        read = points.setdefault(CARRIED if carried else attempt, [])
        for line, _ in forwards(path):
            read += points_in(decoded(line, path=path))
    return points


def read_confirmed(folder: Path) -> dict[int, dict[str, list[list[int]]]]:
    """Return by attempt and metric what was confirmed, as ``history.effective_history`` wants."""
    confirmed: dict[int, dict[str, list[list[int]]]] = {}
    for attempt, carried, path in found_logs(folder):
        for line, _ in () if carried else forwards(path):
            for key, one in confirmed_in(decoded(line, path=path)):
                confirmed.setdefault(attempt, {}).setdefault(key, []).append(one)
    return confirmed


def _newest(folder: Path, *, not_before_ms: int) -> Iterator[Point]:
    """Yield what attempts logged from a time stamp on; after that all that came with checkpoints.

    Only the former is in the order of time, and so need not be read whole.
    """
    found = found_logs(folder)[::-1]
    for path in (path for _, carried, path in found if not carried):
        for line in backwards(path):
            read = points_in(decoded(line, path=path))
            if read and read[0].timestamp_ms < not_before_ms:
                break
            yield from read
    for path in (path for _, carried, path in found if carried):
        for line, _ in forwards(path):
            yield from points_in(decoded(line, path=path))


def found_logs(folder: Path) -> list[tuple[int, bool, Path]]:
    """Return attempt, whether what is in it came with a checkpoint, and path of every file."""
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("attempt-*.jsonl"))
    # A checkpoint's points are older than those of the attempt that took them over.
    order = ((int(match[1]), match[2] is None, path) for match, path in named if match)
    return [(attempt, not own, path) for attempt, own, path in sorted(order)]
