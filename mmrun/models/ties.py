"""Weights that a configuration ties and files hold apart, as those of ByT5, mT5 and T5 1.1 do."""

from collections.abc import Collection
from typing import Any

from torch import nn
from transformers import PreTrainedModel


def held_apart(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of weights that should be another's, and were read with values of their own.

    transformers leaves such weights apart where it reads files, and ties them in any model that is
    made from the configuration alone.
    """
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    return tuple(
        target
        for target, source in sorted(tied.items())
        if model.get_parameter_or_buffer(target) is not model.get_parameter_or_buffer(source)
    )


def keep_apart(model: PreTrainedModel, names: Collection[str]) -> None:
    """Let each of ``names`` be a weight of its own, whenever weights are tied again."""
    for prefix, part in model.named_modules() if names else ():
        if isinstance(part, PreTrainedModel):
            tied = part.get_expanded_tied_weights_keys(all_submodels=False)
            whole = f"{prefix}." if prefix else ""
            part._tied_weights_keys = {  # noqa: SLF001 (transformers has no other place for it)
                target: source for target, source in tied.items() if whole + target not in names
            }
            part.all_tied_weights_keys = part.get_expanded_tied_weights_keys(all_submodels=True)
    for name in names:
        place, _, leaf = name.rpartition(".")
        holder: Any = model.get_submodule(place)
        own = getattr(holder, leaf).detach().clone()
        setattr(holder, leaf, nn.Parameter(own))
