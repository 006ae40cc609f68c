"""The points that a checkpoint carries, since the server is not known to have them.

A resume on another machine may have nothing but the checkpoint; so it carries all of them, however
long the server is away. Each is encoded once, for the first checkpoint after it; others copy it.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO
from weakref import finalize

from mmrun.files import write_whole
from mmrun.tracking.journal import Journal
from mmrun.tracking.store import Point

PENDING = "pending_metrics.jsonl"


class Pending:
    """What waits in the journals, as checkpoints carry it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lines: IO[bytes] | None = None
        """What the checkpoint before carried; it is gone with the process."""
        self._sent: Mapping[Path, int] | None = None
        """By journal file, where its part of that begins; None where it is not whole."""
        self._read: dict[Path, int] = {}
        self._later: list[Point] = []

    def write(self, folder: Path, *, step: int) -> None:
        """Let the checkpoint in ``folder`` carry what waits of ``step`` and before.

        Training goes on meanwhile: later points are not the checkpoint's.
        """
        logs = self._journal.logs()
        sent = {log.path: log.sent for log in logs}
        before, self._sent = self._sent, None
        lines = self._lines or self._opened()
        if sent != before:
            lines.seek(0)
            lines.truncate()
            self._read, self._later = dict(sent), []
        waiting = self._later
        for log in logs:
            batch = log.batch(start=self._read[log.path])
            self._read[log.path] = batch.until
            waiting += batch.points
        lines.writelines(_encoded(point for point in waiting if point.step <= step))
        self._later = [point for point in waiting if point.step > step]
        if lines.tell():
            lines.seek(0)
            with (folder / PENDING).open("wb") as file:
                shutil.copyfileobj(lines, file)
        self._sent = sent

    def _opened(self) -> IO[bytes]:
        self._lines = lines = tempfile.TemporaryFile(dir=self._journal.folder)  # noqa: SIM115 (kept)
        finalize(self, lines.close)
        return lines


def write_pending(folder: Path, points: Iterable[Point]) -> None:
    """Let a checkpoint carry ``points``."""
    write_whole(folder / PENDING, b"".join(_encoded(points)))


def read_pending(folder: Path) -> list[Point]:
    """Return the points that a checkpoint carries."""
    path = folder / PENDING
    if not path.exists():
        return []
    return [Point(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _encoded(points: Iterable[Point]) -> Iterator[bytes]:
    return (f"{json.dumps(point._asdict())}\n".encode() for point in points)
