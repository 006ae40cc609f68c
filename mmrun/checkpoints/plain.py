"""Checkpoints that plain Hugging Face wrote: no manifest, so their own files must be readable."""

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from mmrun.errors import CheckpointError

STATE = "trainer_state.json"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ARCHIVES = ("optimizer.pt", "scheduler.pt")
_HEADER_LIMIT = 100_000_000
"""The limit of the safetensors format itself."""


def plain_step(folder: Path) -> int:
    """Return the step of a readable plain checkpoint; what is not is a ``CheckpointError``."""
    state = _json(folder / STATE)
    step = state.get("global_step")
    if not isinstance(step, int) or step < 0:
        raise CheckpointError(f"{STATE} has no global_step")
    for weights in _weights(folder):
        _check_safetensors(folder / weights)
    generators = sorted(path.name for path in folder.glob("rng_state*.pth"))
    if not generators:
        raise CheckpointError("rng_state.pth is missing")
    for name in (*_ARCHIVES, *generators):
        _check_archive(folder / name)
    return step


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} is missing") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path.name} holds no mapping")
    return tree


def _weights(folder: Path) -> list[str]:
    if (folder / _WEIGHTS).exists() or not (folder / _INDEX).exists():
        return [_WEIGHTS]
    shards = _json(folder / _INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{_INDEX} names no shard")
    names = sorted({str(name) for name in shards.values()})
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"{_INDEX} names a file outside the folder")
    return names


def _check_safetensors(path: Path) -> None:
    """Read the header and compare the length it promises with the file's."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= _HEADER_LIMIT else {}
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        promised = 8 + length + max(entry["data_offsets"][1] for entry in tensors)
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.name} is missing") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path.name} is damaged: its header cannot be read") from error
    if size != promised:
        raise CheckpointError(f"{path.name} is damaged: {size} bytes instead of {promised}")


def _check_archive(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path.name} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path.name} is damaged: {error}") from error
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{path.name} is damaged: it was not written by torch")
