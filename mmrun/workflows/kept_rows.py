"""Rows that are translated already, on disk until all of them are.

A line holds the rows of one batch. The line that a killed process was writing is not whole, and is
cut off by the next one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmrun.faults import reach
from mmrun.tasks.written import Candidate, Written
from mmrun.tracking.lease import folder_lock

_ROWS = "rows.jsonl"


class KeptRows:
    """What was written for the rows of a split, by their index."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows = _read(file)

    @property
    def rows(self) -> Mapping[int, Written]:
        """The rows that are done."""
        return self._rows

    def add(self, indices: Sequence[int], written: Sequence[Written]) -> None:
        """Keep the rows of one batch; after that, a killed process has not to write them again."""
        batch = dict(zip(indices, written, strict=True))
        line = json.dumps([[index, _plain(row)] for index, row in batch.items()])
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self._rows.update(batch)
        reach("rows.kept", step=len(self._rows))

    def forget(self) -> None:
        """Remove what was kept, once it lies where it belongs."""
        self._file.unlink(missing_ok=True)


@contextmanager
def kept_rows(folder: Path) -> Iterator[KeptRows]:
    """Open what was kept in ``folder``, for this process alone; nothing kept leaves no folder.

    Raises:
        TrackingError: another process is at work on the same rows.
    """
    with folder_lock(folder, hint="wait until it has ended: its predictions are the same"):
        yield KeptRows(folder / _ROWS)
    with suppress(OSError):  # others may be at work on other rows
        folder.parent.rmdir()


def _read(file: Path) -> dict[int, Written]:
    """Return the rows of the whole lines, and cut off the rest."""
    content = file.read_bytes() if file.exists() else b""
    rows: dict[int, Written] = {}
    whole = 0
    for line in content.splitlines(keepends=True):
        try:
            found = {int(index): _typed(row) for index, row in json.loads(line)}
        except (ValueError, TypeError, KeyError):  # torn, or what a power cut left of it
            break
        if not line.endswith(b"\n"):
            break
        rows |= found
        whole += len(line)
    if whole < len(content):
        with file.open("r+b") as stream:
            stream.truncate(whole)
    return rows


def _plain(row: Written) -> list[dict[str, Any]]:
    return [{"text": one.text, "score": one.score} for one in row.candidates]


def _typed(row: Sequence[Mapping[str, Any]]) -> Written:
    return Written(
        candidates=tuple(Candidate(text=one["text"], score=float(one["score"])) for one in row)
    )
