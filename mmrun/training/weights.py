"""A model's weights on disk: those that training leaves as they are lie in a shard of their own.

Such a shard is the same file in every checkpoint, so a store needs it once. Hugging Face's index
names both shards: ``from_pretrained`` and the Trainer read them as they read any sharded model.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

TRAINED = "model-trained.safetensors"
FROZEN = "model-frozen.safetensors"
_WORTH_BYTES = 64 * 1024
"""Less than this is not worth a file of its own."""

State = Mapping[str, torch.Tensor]


def save_with_frozen_apart(
    model: PreTrainedModel, folder: Path, *, save: Callable[[Any], None]
) -> None:
    """Write a model and what belongs to it into ``folder``.

    Args:
        model: The model that is trained.
        folder: Where to.
        save: Writes everything (weights, configuration, processor) there; is given the state to
            write, or None for all of it.
    """
    state = model.state_dict()
    frozen = {name: state[name] for name in frozen_names(model) if name in state}
    if _bytes(frozen) < _WORTH_BYTES or len(frozen) == len(state) or _is_converted(model):
        save(None)
        return
    save({name: tensor for name, tensor in state.items() if name not in frozen})
    (folder / SAFE_WEIGHTS_NAME).rename(folder / TRAINED)
    with TemporaryDirectory(prefix=".frozen-", dir=folder) as scratch:
        model.save_pretrained(scratch, state_dict=frozen)
        Path(scratch, SAFE_WEIGHTS_NAME).rename(folder / FROZEN)
    _write_index(folder)


def constant_files(folder: Path) -> frozenset[str]:
    """Return which of the files in ``folder``, just saved, training does not change."""
    return frozenset(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and (path.suffix != ".safetensors" or path.name == FROZEN)
    )


def frozen_names(model: nn.Module) -> frozenset[str]:
    """Return the parameters that are not trained; a buffer may change, so none is among them."""
    return frozenset(
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    )


def _is_converted(model: PreTrainedModel) -> bool:
    """Whether transformers turns the tensors into others on disk, which needs all at once."""
    conversions = getattr(model, "_weight_conversions", None)
    if conversions is None:
        conversions = get_model_conversion_mapping(model, add_legacy=False)
    return bool(conversions)


def _bytes(state: State) -> int:
    # Two names of one tensor count twice, which only makes a shard that is a little small.
    return sum(tensor.nbytes for tensor in state.values())


def _write_index(folder: Path) -> None:
    shards: dict[str, str] = {}
    for name in (TRAINED, FROZEN):
        with safe_open(folder / name, framework="pt") as file:
            shards |= dict.fromkeys(file.keys(), name)
    size = sum((folder / name).stat().st_size for name in (TRAINED, FROZEN))
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(shards.items()))}
    (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(
        json.dumps(index, indent=2) + "\n", encoding="utf-8"
    )
