"""Whether a checkpoint's small files can be read with the libraries that are here."""

import pickle
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from transformers.trainer_pt_utils import safe_globals

from mmrun.errors import CheckpointError

_FILES = ("rng_state*.pth", "scheduler.pt", "scaler.pt", "optimizer.pt")
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
            try:
                with safe_globals():  # type: ignore[no-untyped-call]
                    torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, AttributeError, ImportError) as error:
                raise _unreadable(path, error, versions=versions) from error


def _unreadable(path: Path, error: Exception, *, versions: Mapping[str, str]) -> CheckpointError:
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
        f"{path.parent.name}/{path.name} holds more than plain data, so it is not read: {reason}",
        hint="resume from a checkpoint that a training wrote, not one that was changed",
    )


def _here(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
