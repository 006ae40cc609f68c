import struct
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

from mmrun.modalities.font_table import characters_in

SEGMENTS = struct.pack(
    ">7H3HH3H3H3H3H",
    *(4, 0, 0, 2 * 3, 0, 0, 0),
    *(0x42, 0x51, 0xFFFF),  # ends
    0,
    *(0x41, 0x50, 0xFFFF),  # starts
    *(0x10000 - 0x40, 0, 1),  # what is added for a glyph
    *(0, 4, 0),  # where glyphs are listed
    *(0, 7, 0),  # glyphs of U+0050 (none) and U+0051
)
TRIMMED = struct.pack(">5H3H", 6, 0, 0, 0x61, 3, 1, 0, 2)
GROUPS = struct.pack(">HHLLL6L", 12, 0, 0, 0, 2, 0x1F600, 0x1F601, 5, 0x41, 0x41, 9)
ONE_GLYPH = struct.pack(">HHLLL3L", 13, 0, 0, 0, 1, 0x30, 0x32, 4)


def with_table(table: bytes, *, kind: tuple[int, int] = (3, 1), collection: bool = False) -> bytes:
    """A font with nothing in it but this table of characters."""
    start = 16 if collection else 0
    at = start + 12 + 16
    head = struct.pack(">LHHHH4sLLL", 0x10000, 1, 0, 0, 0, b"cmap", 0, at, 12 + len(table))
    places = struct.pack(">HHHHL", 0, 1, *kind, 12)
    return struct.pack(">4sLLL", b"ttcf", 0, 1, 16) * collection + head + places + table


@pytest.mark.parametrize(
    ("table", "characters"),
    [
        pytest.param(SEGMENTS, {0x41, 0x42, 0x51}, id="segments"),
        pytest.param(TRIMMED, {0x61, 0x63}, id="an array"),
        pytest.param(GROUPS, {0x1F600, 0x1F601, 0x41}, id="groups"),
        pytest.param(ONE_GLYPH, {0x30, 0x31, 0x32}, id="one glyph for all"),
    ],
)
@pytest.mark.parametrize("collection", [False, True])
def test_characters_with_a_glyph_are_found(
    table: bytes, characters: AbstractSet[int], collection: bool
) -> None:
    assert characters_in(with_table(table, collection=collection)) == characters


def test_a_font_is_read_as_a_whole(font: str) -> None:
    known = characters_in(Path(font).read_bytes())

    assert known is not None
    assert {ord(one) for one in "azAZ09.,?!"} <= known
    assert ord("ü") not in known


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"wOF2" + bytes(60), id="compressed"),
        pytest.param(with_table(SEGMENTS)[:-8], id="cut off"),
        pytest.param(with_table(SEGMENTS, kind=(1, 0)), id="codes of a Macintosh"),
    ],
)
def test_a_font_that_does_not_say_is_not_guessed_at(content: bytes) -> None:
    assert characters_in(content) is None
