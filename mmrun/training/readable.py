"""Whether a checkpoint's small files can be read with the libraries that are here."""

import pickle
import random
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.trainer_pt_utils import safe_globals

from mmrun.errors import CheckpointError

_GENERATORS = "rng_state*.pth"
_FILES = (_GENERATORS, "scheduler.pt", "scaler.pt", "optimizer.pt")
_ZIP = b"PK\x03\x04"
_NOT_READ = (
    pickle.UnpicklingError,
    RuntimeError,
    AttributeError,
    ImportError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
)
"""What ``torch.load`` raises of content that it does not take, or that is no pickle at all."""
_LIBRARIES = ("numpy", "torch", "transformers")


def check_readable(checkpoint: Path, *, versions: Mapping[str, str]) -> None:
    """Read what the Trainer will read, tensors aside, before anything is begun.

    Only plain data is accepted: a file that would run code when it is read is refused, too.

    Args:
        checkpoint: A verified folder.
        versions: The libraries that it was written with.

    Raises:
        CheckpointError: a file cannot be read here, with the versions that differ.
    """
    for pattern in _FILES:
        for path in sorted(checkpoint.glob(pattern)):
            content = _content(path, versions=versions)
            if pattern == _GENERATORS:
                _check_generators(path, content, versions=versions)


def _content(path: Path, *, versions: Mapping[str, str]) -> Any:
    try:
        with safe_globals():  # type: ignore[no-untyped-call]
            return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except _NOT_READ as error:
        if _is_damaged(path):
            raise CheckpointError(
                f"{path.parent.name}/{path.name} is cut or damaged: it cannot be read to its end",
                hint="resume from another checkpoint, or fetch this one again",
            ) from error
        if isinstance(error, OSError):  # the disk's fault, and not the file's
            raise
        problem = "holds more than plain data, so it is not read"
        raise _unreadable(path, problem, error, versions=versions) from error


def _is_damaged(path: Path) -> bool:
    """Tell a file that lost something from one that holds what is refused.

    torch writes zip archives, with a directory at the end and a checksum for each member.
    """
    with path.open("rb") as file:
        begins = file.read(len(_ZIP))
    if begins != _ZIP:
        return begins == _ZIP[: len(begins)]  # of so short a file it is the beginning, or empty
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is not None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return True


def _check_generators(
    path: Path, states: Mapping[str, Any], *, versions: Mapping[str, str]
) -> None:
    """Put the states into generators that nobody draws from."""
    try:
        random.Random().setstate(states["python"])
        np.random.RandomState().set_state(states["numpy"])
        torch.Generator().set_state(states["cpu"])
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        problem = "has states that the generators here do not take"
        raise _unreadable(path, problem, error, versions=versions) from error


def _unreadable(
    path: Path, problem: str, error: Exception, *, versions: Mapping[str, str]
) -> CheckpointError:
    other = {
        name: (saved, here)
        for name in _LIBRARIES
        if (saved := versions.get(name)) and (here := _here(name)) and saved != here
    }
    if other:
        said = ", ".join(f"{name} {saved}, here is {here}" for name, (saved, here) in other.items())
        return CheckpointError(
            f"{path.parent.name}/{path.name} cannot be read here: it was written with {said}",
            hint="pip install "
            + " ".join(f"{name}=={saved}" for name, (saved, _) in other.items()),
        )
    reason = str(error).strip().partition("\n")[0]
    return CheckpointError(
        f"{path.parent.name}/{path.name} {problem}: {reason}",
        hint="resume from a checkpoint that a training wrote, not one that was changed",
    )


def _here(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
