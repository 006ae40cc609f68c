"""The mean of the weights of several checkpoints, one tensor at a time."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmrun.errors import CheckpointError
from mmrun.progress import progress
from mmrun.training.fit import saved_shapes, weight_files

WEIGHTS = "model.safetensors"


def average_weights(checkpoints: Sequence[Path], *, to: Path) -> None:
    """Write the mean of the weights of ``checkpoints`` to the file ``to``.

    Holds the result and one tensor more in memory. Sums are in float64, so the mean of equal
    values is that value; what is not a floating-point number is taken from the last checkpoint.

    Raises:
        CheckpointError: they have other tensors, so they are not of one model.
    """
    first, *others = checkpoints
    shapes = saved_shapes(first)
    for other in others:
        _refuse_misfit(shapes, saved_shapes(other), names=(first.name, other.name))
    with ExitStack() as opened:
        files = [_Weights(checkpoint, opened) for checkpoint in checkpoints]
        names = sorted(shapes)
        mean = {
            name: _mean(name, files)
            for name in progress(names, total=len(names), label="averaging", unit="tensors")
        }
    save_file(mean, to, metadata={"format": "pt"})


class _Weights:
    """The tensors of one checkpoint, read when they are asked for."""

    def __init__(self, checkpoint: Path, opened: ExitStack) -> None:
        self._files: dict[str, Any] = {}
        for path in weight_files(checkpoint):
            file = opened.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def _mean(name: str, files: Sequence[_Weights]) -> torch.Tensor:
    last = files[-1][name]
    if not last.is_floating_point():
        return last.clone()
    total = last.to(torch.float64)
    for file in files[:-1]:
        total += file[name]
    return (total / len(files)).to(last.dtype)


def _refuse_misfit(
    one: Mapping[str, tuple[int, ...]],
    other: Mapping[str, tuple[int, ...]],
    *,
    names: tuple[str, str],
) -> None:
    odd = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    if odd:
        raise CheckpointError(
            f"{names[0]} and {names[1]} are of different models: {odd[0]} is {one.get(odd[0])} in "
            f"the one and {other.get(odd[0])} in the other",
            hint="average checkpoints of one run",
        )
