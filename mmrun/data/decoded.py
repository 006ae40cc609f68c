"""Decoded signals on disk: a file each, in a folder of bounded size that many processes share.

An entry is written beside and renamed, so that a reader finds a whole one or none, whoever is
killed; what a power cut leaves does not have its own checksum, and is thrown away. How much is
there stands in a ledger that is changed under a lock and before the entry is, so that a kill can
only make it say too much; it is counted anew when it says that the bound is reached.
"""

import logging
import mmap
import os
import secrets
import shutil
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from mmrun.faults import reach

logger = logging.getLogger(__name__)

_MAGIC = b"mmrun-1\n"
_HEAD = struct.Struct("<8s16s4sB3x6Q")
_CHECKED_FROM = 24
_DATA_FROM = 128
"""Where the values begin; a multiple of what any processor wants them aligned to."""
_DIMENSIONS = 6
_MAPPED_FROM = 2 << 20
"""What is smaller is read faster than mapped, and costs no open file while it is used."""
_BLOCK = 4096
_LOCK_S = 1.0
_HOUR_S = 3600.0
_CLOCKS_S = 1.0
"""By how much the clock of a file system may be behind."""
_CLEARED_TO = 0.9
_SPARE = 2**30
_SPARE_SHARE = 0.05

Values = np.ndarray[Any, np.dtype[Any]]


class Entry(NamedTuple):
    """A file of the folder, as a look at it found it."""

    used: float
    size: int
    path: Path


def to_evict(
    entries: Sequence[Entry], *, needed: int, bound: int, before: float
) -> tuple[list[Entry], int]:
    """Return what to remove so that ``needed`` bytes find room, and what is left then.

    Those that were not used for the longest go first, and none that was used since ``before``: a
    training comes to each sample once an epoch, so that what it pushed out for another sample
    would be gone when its turn comes. A little more goes than is needed, to count rarely.
    """
    left = sum(entry.size for entry in entries)
    evicted: list[Entry] = []
    for entry in sorted(entries):
        if left + needed <= bound * _CLEARED_TO or entry.used >= before:
            break
        evicted.append(entry)
        left -= entry.size
    return evicted, left


class DecodedFolder:
    """The entries below one folder; nothing that goes wrong here is worth stopping for."""

    def __init__(self, folder: Path, *, bound: int) -> None:
        self._folder = folder
        self._bound = bound
        self._started = time.time() - _CLOCKS_S
        self._closed = mmap.mmap(-1, 1)  # shared with the worker processes that are forked
        self._lock_of_process: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_closed": self._closed[0], "_lock_of_process": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        closed = mmap.mmap(-1, 1)
        closed[0] = state["_closed"]
        self.__dict__.update(state, _closed=closed)

    def get(self, name: str) -> Values | None:
        """Return the values of an entry or of a link to one, which cannot be written to."""
        path = self._path(name)
        try:
            with path.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                content = _content(file, size=status.st_size)
                if status.st_mtime < max(self._started, time.time() - _HOUR_S):
                    with suppress(OSError):  # another user's, or a folder that is only read
                        os.utime(file.fileno())
        except OSError:
            return None
        values = _unpacked(content)
        if values is None:
            logger.debug("%s is not whole; it is made again", path)
            with suppress(OSError):
                path.resolve().unlink()
        return values

    def put(self, name: str, values: Values) -> None:
        """Keep ``values`` under ``name``, if there is room or room can be made."""
        head = _head(values)
        size = _on_disk(_DATA_FROM + values.nbytes)
        if self._closed[0] or head is None:
            return
        path = self._path(name)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            try:
                with _opened(partial) as file:
                    file.write(head)
                    reach("cache.begun")
                    file.write(values.reshape(-1).view(np.uint8).data)
                reach("cache.written")
                with self._lock():
                    if self._has_room(size):
                        reach("cache.counted")
                        partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except Timeout:
            logger.debug("%s is not kept: another process holds the cache", path)
        except (OSError, NotImplementedError) as error:  # the latter: no locks on this file system
            self._close(f"data.cache: {self._folder} cannot be written: {error}")

    def link(self, name: str, to: str) -> None:
        """Make the entry ``to`` found as ``name`` as well."""
        if self._closed[0]:
            return
        path, target = self._path(name), self._path(to)
        with suppress(OSError):  # it is there already, or this file system has no links
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(Path("..", *target.parts[-2:]))

    def _lock(self) -> FileLock:
        if self._lock_of_process is None:
            self._lock_of_process = FileLock(self._folder / "lock", timeout=_LOCK_S)
        return self._lock_of_process

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name[2:]

    def _has_room(self, size: int) -> bool:
        """Count ``size`` in, if it fits; to be called under the lock."""
        handle = os.open(self._folder / "ledger", os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(handle, "r+b", buffering=0) as ledger:
            total, counted = _counted(ledger.read())
            now = time.time()
            if total + size > self._bound or not 0 <= now - counted < _HOUR_S:
                total, counted = self._make_room(size), now
            problem = self._problem(total + size)
            if problem is None:
                ledger.seek(0)  # and not cut first: that would flush the file to disk each time
                ledger.write(f"{total + size:20d} {counted:20.3f}\n".encode("ascii"))
                return True
        self._close(problem)
        return False

    def _problem(self, total: int) -> str | None:
        """Return why the folder cannot have ``total`` bytes."""
        if total > self._bound:
            return (
                f"data.cache_size_mb: the {self._bound // 2**20} MB of {self._folder} are full of "
                "what this training itself uses"
            )
        disk = shutil.disk_usage(self._folder)
        if disk.free < min(_SPARE, int(disk.total * _SPARE_SHARE)):
            return f"data.cache: the disk of {self._folder} is all but full"
        return None

    def _make_room(self, needed: int) -> int:
        """Remove what is left over or was not used lately; return how many bytes are there."""
        entries = list(self._entries())
        evicted, left = to_evict(entries, needed=needed, bound=self._bound, before=self._started)
        for entry in evicted:
            with suppress(OSError):
                entry.path.unlink()
        return left

    def _entries(self) -> Iterator[Entry]:
        for path in self._folder.glob("??/*"):
            with suppress(OSError):  # files come and go meanwhile
                if path.is_symlink():
                    if not path.exists():
                        path.unlink()
                    continue
                status = path.stat()
                if path.suffix == ".partial":
                    if time.time() - status.st_mtime > _HOUR_S:
                        path.unlink()  # of a process that was killed
                    continue
                yield Entry(status.st_mtime, _on_disk(status.st_size), path)

    def _close(self, why: str) -> None:
        if self._closed[0]:
            return
        self._closed[0] = 1
        logger.warning("%s; what is decoded from now on is not kept there", why)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def _content(file: Any, *, size: int) -> "bytes | mmap.mmap":
    if size < _MAPPED_FROM:
        return bytes(file.read())
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def _head(values: Values) -> bytes | None:
    """Return what stands before the values; None for what cannot be an entry."""
    dtype = values.dtype.str.encode()
    if values.dtype.kind not in "fiub" or len(dtype) > 4 or not 0 < values.ndim <= _DIMENSIONS:  # noqa: PLR2004
        return None
    if not values.flags.c_contiguous or not values.nbytes:
        return None
    shape = (*values.shape, *(0,) * (_DIMENSIONS - values.ndim))
    head = _HEAD.pack(_MAGIC, b"", dtype, values.ndim, *shape)
    checksum = _checksum(head[_CHECKED_FROM:], values)
    return _HEAD.pack(_MAGIC, checksum, dtype, values.ndim, *shape).ljust(_DATA_FROM, b"\0")


def _unpacked(content: "bytes | mmap.mmap") -> Values | None:
    """Return the values, or None if these are not all the bytes that were written."""
    if len(content) < _DATA_FROM:
        return None
    magic, checksum, dtype, dimensions, *shape = _HEAD.unpack_from(content)
    if magic != _MAGIC:
        return None
    data = memoryview(content)[_DATA_FROM:]
    if _checksum(content[_CHECKED_FROM : _HEAD.size], data) != checksum:
        return None
    return np.frombuffer(data, dtype=dtype.rstrip(b"\0").decode()).reshape(shape[:dimensions])


def _checksum(head: bytes, data: Any) -> bytes:
    digest = xxhash.xxh3_128(head)
    digest.update(data)
    return digest.digest()


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _counted(ledger: bytes) -> tuple[int, float]:
    """Return how many bytes are there and when they were counted; long ago where none says."""
    try:
        total, counted = ledger.split()
        return int(total), float(counted)
    except ValueError:
        return 0, 0.0
