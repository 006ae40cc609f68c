"""What can happen to a file."""

from collections.abc import Callable
from pathlib import Path


def flip(path: Path) -> None:
    """Change one bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """Lose the second half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Lose everything but the name."""
    path.write_bytes(b"")


DAMAGES: list[Callable[[Path], None]] = [flip, cut, empty, Path.unlink]
