"""The weights of a checkpoint and a model that was made apart from it: whether they fit."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from mmrun.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
_NAMED = 3


def load_weights(model: nn.Module, checkpoint: Path) -> None:
    """Put the weights of ``checkpoint`` into ``model``.

    Raises:
        CheckpointError: the model has other tensors; names and shapes tell, before any is loaded.
    """
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    _refuse_misfit(model, checkpoint, tied=tied)
    for path in weight_files(checkpoint):
        model.load_state_dict(load_file(path), strict=False)
    tie = getattr(model, "tie_weights", None)
    if callable(tie):
        tie()


def _refuse_misfit(model: nn.Module, checkpoint: Path, *, tied: set[str]) -> None:
    saved = saved_shapes(checkpoint)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    odd = [
        f"{name} is {_text(saved.get(name))} in the checkpoint and {_text(wanted.get(name))} in "
        "the model"
        for name in sorted((saved.keys() | wanted.keys()) - tied)
        if saved.get(name) != wanted.get(name)
    ]
    if odd:
        raise CheckpointError(
            f"the model section does not fit {checkpoint.name}: {odd[0]}",
            hint="set the model and processor sections back, or start a new run in another folder",
            more=tuple(odd[1:_NAMED]),
        )


def weight_files(checkpoint: Path) -> list[Path]:
    """Return the files that hold the weights: one, or the shards that an index names."""
    index = checkpoint / "model.safetensors.index.json"
    if not index.exists():
        return [checkpoint / "model.safetensors"]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [checkpoint / name for name in sorted(set(names))]


def saved_shapes(checkpoint: Path) -> Shapes:
    """Return the shape of every tensor, read from the headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(checkpoint):
        with safe_open(path, framework="pt") as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return shapes


def _text(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))
