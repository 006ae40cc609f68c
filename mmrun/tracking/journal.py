"""Points of metrics on disk first: one append-only file an attempt, readable after any death.

A line is a checksum and the points of one call, or the places that it confirmed: values equal to
those that an earlier attempt had logged. What was sent is an offset in a file beside it. Time
stamps are decided when a point is journaled, so that sending it twice stores it once.
"""

import json
import logging
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun import faults
from mmrun.errors import TrackingError
from mmrun.files import write_whole
from mmrun.tracking.replay import Divergence
from mmrun.tracking.store import Point

logger = logging.getLogger(__name__)

_NAME = re.compile(r"attempt-(\d+)(\.carried)?\.jsonl")
_LINE = 25
"""So many points that came with a checkpoint make a line: a fork brings a whole history along."""
CARRIED = 0
"""The attempt under which ``read_journals`` lists points that came with a checkpoint."""


class Clock:
    """Time stamps that never go back, neither within an attempt nor over attempts."""

    def __init__(self, *, after_ms: int = 0) -> None:
        self._last_ms = after_ms

    def now_ms(self) -> int:
        """Return the time, or one millisecond after the time stamp before if that is later."""
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        return self._last_ms


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
        self.sent = min(self._read_mark(), self._size())
        """Up to here the server has everything."""
        self._descriptor: int | None = None
        self._torn = False

    def append(self, points: Sequence[Point]) -> None:
        """Add one line with ``points``, handed to the system before this returns."""
        self._write(json.dumps([[p.key, p.step, p.timestamp_ms, p.value] for p in points]))

    def confirm(self, points: Sequence[Point]) -> None:
        """Add one line that says that ``points`` came out as they had been logged before."""
        self._write(json.dumps({"confirmed": [[point.key, point.step] for point in points]}))

    def diverge(self, divergences: Sequence[Divergence]) -> None:
        """Add one line that says which values came out otherwise than they had been logged."""
        # An mmrun that knows nothing of divergences reads what is confirmed in every such line.
        self._write(json.dumps({"confirmed": [], "diverged": divergences}))

    def _write(self, content: str) -> None:
        line = f"{zlib.crc32(content.encode()):08x} {content}\n".encode()
        try:
            descriptor = self._opened()
            if self._torn:
                line = b"\n" + line
            self._torn = True  # until the whole line is out
            while line:
                line = line[os.write(descriptor, line) :]
            self._torn = False
        except OSError as error:
            raise TrackingError(
                f"cannot write the metrics journal {self.path}: {error.strerror}",
                hint="make room on the disk; the same command goes on from the last checkpoint",
            ) from error

    def batch(self, *, limit: int | None = None) -> Batch:
        """Return what follows the mark, up to about ``limit`` points."""
        points: list[Point] = []
        until = self.sent
        for line, end in _lines(self.path, start=self.sent):
            points += _parsed(line, path=self.path)
            until = end
            if limit is not None and len(points) >= limit:
                break
        return Batch(points=tuple(points), until=until)

    def acknowledge(self, until: int) -> None:
        """Remember that the server has everything up to ``until``."""
        write_whole(self._mark, str(until))
        self.sent = until

    def flush(self) -> None:
        """Make what was written survive a power cut too."""
        if self._descriptor is not None:
            with suppress(OSError):
                os.fsync(self._descriptor)

    def _opened(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._torn = _ends_torn(self.path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._descriptor = os.open(self.path, flags, 0o644)
        return self._descriptor

    def _read_mark(self) -> int:
        try:
            return int(self._mark.read_text())
        except (OSError, ValueError):
            return 0  # everything is sent again, which is harmless

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


class Journal:
    """The points of one attempt, and how many of them the server has."""

    def __init__(self, folder: Path, *, attempt: int) -> None:
        """Open the journal of ``attempt`` in ``folder``, or start it."""
        self.folder = folder
        self.attempt = attempt
        self.own = PointLog(folder / f"attempt-{attempt}.jsonl")
        """What this attempt logs itself."""
        self._carried = PointLog(folder / f"attempt-{attempt}.carried.jsonl")

    def logs(self) -> list[PointLog]:
        """Return the files of all attempts, in the order in which they are to be sent."""
        own = {log.path: log for log in (self._carried, self.own)}
        earlier = [log for log in open_logs(self.folder) if log.path not in own]
        return [*earlier, *own.values()]

    def attempts(self) -> set[int]:
        """Return the attempts that wrote to this folder."""
        return {attempt for attempt, _, _ in _found(self.folder)}

    def append(self, points: Sequence[Point]) -> None:
        """Write the points of one call; they survive the death of this process."""
        self.own.append(points)

    def confirm(self, points: Sequence[Point]) -> None:
        """Write that these values of earlier attempts were met again; they are not sent."""
        self.own.confirm(points)

    def diverge(self, divergences: Sequence[Divergence]) -> None:
        """Write which values of earlier attempts were not met again; a kill does not undo it."""
        self.own.diverge(divergences)

    def import_unsent(self, points: Iterable[Point]) -> None:
        """Take over points that came with a checkpoint, except those known here."""
        known = {
            repr(point) for journaled in read_journals(self.folder).values() for point in journaled
        }
        new = [point for point in points if repr(point) not in known]
        for start in range(0, len(new), _LINE):
            self._carried.append(new[start : start + _LINE])
            faults.reach("journal.carried")

    def unsent(self) -> list[Point]:
        """Return the points that the server is not known to have, of every attempt here."""
        return [point for log in self.logs() for point in log.batch().points]


def open_logs(folder: Path) -> list[PointLog]:
    """Return the journal files in ``folder``, oldest attempt first."""
    return [PointLog(path) for _, _, path in _found(folder)]


def read_journals(folder: Path) -> dict[int, list[Point]]:
    """Return all points in ``folder`` by attempt; those that came with a checkpoint at 0."""
    points: dict[int, list[Point]] = {}
    for attempt, carried, path in _found(folder):
        read = points.setdefault(CARRIED if carried else attempt, [])
        for line, _ in _lines(path, start=0):
            read += _parsed(line, path=path)
    return points


def read_confirmed(folder: Path) -> dict[int, dict[str, list[list[int]]]]:
    """Return by attempt and metric what was confirmed, as ``history.effective_history`` wants."""
    confirmed: dict[int, dict[str, list[list[int]]]] = {}
    for attempt, carried, path in _found(folder):
        for line, _ in () if carried else _lines(path, start=0):
            content = _content(line, path=path)
            if isinstance(content, dict):
                for key, step in content["confirmed"]:
                    confirmed.setdefault(attempt, {}).setdefault(key, []).append([step, step])
    return confirmed


def read_diverged(folder: Path, *, attempt: int) -> list[Divergence]:
    """Return what an attempt found to be otherwise than before."""
    path = folder / f"attempt-{attempt}.jsonl"
    contents = (_content(line, path=path) for line, _ in _lines(path, start=0))
    return [
        Divergence(key, step, before, now, tuple(because))
        for content in contents
        if isinstance(content, dict)
        for key, step, before, now, because in content.get("diverged", ())
    ]


def _found(folder: Path) -> list[tuple[int, bool, Path]]:
    named = ((_NAME.fullmatch(path.name), path) for path in folder.glob("attempt-*.jsonl"))
    # A checkpoint's points are older than those of the attempt that took them over.
    order = ((int(match[1]), match[2] is None, path) for match, path in named if match)
    return [(attempt, not own, path) for attempt, own, path in sorted(order)]


def _lines(path: Path, *, start: int) -> Iterator[tuple[bytes, int]]:
    """Yield the whole lines after ``start`` with the offset where each ends."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for line in file:
            if not line.endswith(b"\n"):
                return  # torn by a death, or still being written
            end += len(line)
            yield line, end


def _parsed(line: bytes, *, path: Path) -> list[Point]:
    content = _content(line, path=path)
    if not isinstance(content, list):
        return []
    return [
        Point(key=key, step=step, timestamp_ms=timestamp_ms, value=value)
        for key, step, timestamp_ms, value in content
    ]


def _content(line: bytes, *, path: Path) -> Any:
    checksum, _, content = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        logger.warning("a damaged line in %s is left out", path)
        return None
    return json.loads(content)


def _ends_torn(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
