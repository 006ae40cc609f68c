"""Which characters a font can draw, by the table `cmap` of TrueType and OpenType."""

import struct
from collections.abc import Iterator

import numpy as np

_COLLECTION = b"ttcf"
_UNICODE = {(3, 1), (3, 10), *((0, number) for number in range(5)), (0, 6)}
"""Platform and encoding of tables whose codes are those of Unicode."""


def characters_in(font: bytes) -> frozenset[int] | None:
    """Return the code points that have a glyph; None where the file does not say in this way.

    A font draws the others as an empty box, without a word.
    """
    try:
        table = _table(font)
        codes = [set(_codes(font, place)) for place in _places(font, table)] if table else []
    except (struct.error, ValueError):
        return None
    return frozenset().union(*codes) if any(codes) else None


def _table(font: bytes) -> int | None:
    """Return where `cmap` begins, in a font or in the first one of a collection."""
    (head,) = struct.unpack_from(">L", font, 12) if font.startswith(_COLLECTION) else (0,)
    (count,) = struct.unpack_from(">H", font, head + 4)
    for number in range(count):
        tag, _, offset, _ = struct.unpack_from(">4sLLL", font, head + 12 + 16 * number)
        if tag == b"cmap":
            return int(offset)
    return None


def _places(font: bytes, table: int) -> Iterator[int]:
    _, count = struct.unpack_from(">HH", font, table)
    for number in range(count):
        *kind, offset = struct.unpack_from(">HHL", font, table + 4 + 8 * number)
        if tuple(kind) in _UNICODE:
            yield table + offset


def _codes(font: bytes, place: int) -> Iterator[int]:
    (kind,) = struct.unpack_from(">H", font, place)
    if kind == 4:  # noqa: PLR2004 (the numbers are those of the format)
        yield from _by_segments(font, place)
    elif kind == 6:  # noqa: PLR2004
        first, count = struct.unpack_from(">HH", font, place + 6)
        glyphs = np.frombuffer(font, ">u2", count, place + 10)
        yield from (first + int(at) for at in np.flatnonzero(glyphs))
    elif kind in {12, 13}:
        (count,) = struct.unpack_from(">L", font, place + 12)
        for start, end, glyph in np.frombuffer(font, ">u4", 3 * count, place + 16).reshape(-1, 3):
            # Of groups that count up, one that begins with glyph 0 has a glyph for all but that.
            yield from range(int(start) + (not glyph), int(end) + 1 if glyph or kind == 12 else 0)  # noqa: PLR2004


def _by_segments(font: bytes, place: int) -> Iterator[int]:
    (doubled,) = struct.unpack_from(">H", font, place + 6)
    count = doubled // 2
    parts = [place + 14 + doubled * part + 2 * (part > 0) for part in range(4)]
    ends, starts, deltas, offsets = (np.frombuffer(font, ">u2", count, at) for at in parts)
    for number in range(count):
        codes = np.arange(int(starts[number]), int(ends[number]) + 1)
        glyphs = codes
        if offset := int(offsets[number]):
            at = parts[3] + 2 * number + offset
            glyphs = np.frombuffer(font, ">u2", len(codes), at).astype(int)
            codes = codes[glyphs > 0]
            glyphs = glyphs[glyphs > 0]
        yield from map(int, codes[(glyphs + int(deltas[number])) % 2**16 > 0])
