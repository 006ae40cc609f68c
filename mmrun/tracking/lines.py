"""The lines of a journal: a checksum, a space, JSON. Read from the front or from the back.

A line that a death cut has no end, or one that another line gave it, and is told by its checksum.
"""

import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmrun.tracking.store import Point

logger = logging.getLogger(__name__)

_encode = json.JSONEncoder(check_circular=False).encode
_BLOCK = 1 << 18
"""So many bytes are read at a time from the back."""


def encoded(content: Any) -> bytes:
    """Return the line for ``content``."""
    text = _encode(content).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decoded(line: bytes, *, path: Path) -> Any:
    """Return what a line of ``path`` says; None, with a warning, where it is damaged."""
    checksum, _, content = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        logger.warning("a damaged line in %s is left out", path)
        return None
    return json.loads(content)


def points_in(content: Any) -> list[Point]:
    """Return the points that a line's content has; one that confirms has none."""
    if not isinstance(content, list):
        return []
    return [Point(*fields) for fields in content]


def confirmed_in(content: Any) -> list[tuple[str, list[int]]]:
    """Return metric and range, as records have them, of what a line's content confirms."""
    if not isinstance(content, dict):
        return []
    places = content["confirmed"]
    met = content.get("met") or [None] * len(places)  # what was written before lacks it
    return [
        (key, [step, step] if at is None else [step, step, at])
        for (key, step), at in zip(places, met, strict=True)
    ]


def forwards(path: Path, *, start: int = 0) -> Iterator[tuple[bytes, int]]:
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


def backwards(path: Path) -> Iterator[bytes]:
    """Yield the whole lines from the last to the first; what nobody asks for is not read."""
    if not path.exists():
        return
    with path.open("rb") as file:
        place = file.seek(0, os.SEEK_END)
        begun: list[bytes] = []  # the end of a line whose beginning is further in front, reversed
        torn = True  # what follows the last line end is no whole line
        while place:
            size = min(_BLOCK, place)
            place -= size
            file.seek(place)
            *pieces, last = file.read(size).split(b"\n")
            if not pieces:
                begun.append(last)
                continue
            # Every piece but the block's first one begins after a line end that was seen.
            for piece in (last, *reversed(pieces[1:])):
                line = b"".join([piece, *reversed(begun)])
                begun.clear()
                if not torn:
                    yield line + b"\n"
                torn = False
            begun.append(pieces[0])
        if not torn:
            yield b"".join(reversed(begun)) + b"\n"


def ends_torn(path: Path) -> bool:
    """Whether the last line has no end."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
