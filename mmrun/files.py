"""Files that are whole or not there: written beside, flushed, then renamed."""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmrun.stopwatch import digests

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SETTLED_S = 2.0


def is_full(error: BaseException) -> bool:
    """Tell whether ``error`` says that there is no room on the disk, or no quota left.

    Of what goes wrong in their threads and in Rust, libraries keep the text only.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    text = str(error)
    return any(f"[Errno {code}]" in text or f"(os error {code})" in text for code in _FULL)


def is_settled(status: os.stat_result) -> bool:
    """Tell whether a change of the file from now on would show in its time stamp.

    What was written a moment ago may be written again within the same tick of the clock.
    """
    return time.time() - status.st_mtime > _SETTLED_S


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with digests.running(), path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_whole(path: Path, content: str | bytes, *, flushed: bool = True) -> None:
    """Replace ``path`` by ``content`` so that a reader sees the old or the new, never a part.

    What is not ``flushed`` takes a tenth of the time, and a power cut may bring the old one back,
    or leave an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    data = content.encode() if isinstance(content, str) else content
    with beside.open("wb") as file:
        file.write(data)
        if flushed:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(path)
    if flushed:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut, where the system can."""
    with suppress(OSError):  # some network file systems cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_tree(folder: Path) -> None:
    """Flush every file below ``folder``, and the folders that name them, to disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            flush_folder(path)
    flush_folder(folder)


@contextmanager
def folder_whole(final: Path) -> Iterator[Path]:
    """Yield a scratch folder that replaces ``final`` only if the block succeeds.

    An existing ``final`` is moved aside for the moment between two renames and then removed.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = final.with_name(f".{final.name}.partial")
    old = final.with_name(f".{final.name}.old")
    for leftover in (scratch, old):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir()
    yield scratch
    flush_tree(scratch)
    if final.exists():
        final.rename(old)
    scratch.rename(final)
    flush_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link ``source`` as ``target``, or copy it where links cannot be made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def size_of(folder: Path) -> int:
    """Return the bytes of the files below ``folder`` that are there at this moment."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # files come and go while others are looked at
            total += path.stat().st_size if path.is_file() else 0
    return total
