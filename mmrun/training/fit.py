"""Whether the weights of a checkpoint fit a model, told from names and shapes alone."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import nn

from mmrun.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
_NAMED = 3


def refuse_misfit(model: nn.Module, checkpoint: Path) -> None:
    """Raise ``CheckpointError`` naming the tensors that the model has otherwise."""
    saved = _saved_shapes(checkpoint)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
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


def _saved_shapes(checkpoint: Path) -> Shapes:
    index = checkpoint / "model.safetensors.index.json"
    names = {"model.safetensors"}
    if index.exists():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        with safe_open(checkpoint / name, framework="pt") as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    return shapes


def _text(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape))
