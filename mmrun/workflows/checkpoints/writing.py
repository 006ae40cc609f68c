"""Where a command writes a folder: what cannot be written is told, and no half of it is left."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrun.errors import DiskFullError, MmrunError, UsageError
from mmrun.files import is_full


def prepare(folder: Path) -> None:
    """Make the way to ``folder``, which is not there or empty, before anything is fetched for it.

    Raises:
        UsageError: nothing can be put there.
        DiskFullError: there is no room.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()
        with TemporaryDirectory(prefix=".mmrun-", dir=folder.parent):
            pass
    except OSError as error:
        if is_full(error):
            raise _full(folder) from error
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}",
            hint="name a folder that does not exist yet, in one that can be written",
        ) from error


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Remove what the block leaves half written beside ``folder``, and tell a full disk."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder.with_name(f".{folder.name}.partial"), ignore_errors=True)
        if is_full(error) and not isinstance(error, MmrunError):
            raise _full(folder) from error
        raise


def _full(folder: Path) -> DiskFullError:
    return DiskFullError(
        f"{folder} could not be written: the disk is full",
        hint="make room on the disk, then run the same command again",
    )
