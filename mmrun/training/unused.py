"""Training arguments that others make idle: transformers passes over them without a word."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from mmrun.config.training_fields import training_value

logger = logging.getLogger(__name__)

_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
_WITHOUT_ARGUMENTS = frozenset({"adafactor", "adamw_torch", "adamw_torch_fused"})
"""Optimizers that read no `optim_args`."""
_WITHOUT_ADAM = frozenset({"adafactor", "adagrad", "rmsprop", "sgd"})
"""Optimizers that read no betas and no epsilon of Adam."""
_WITHOUT_WARMUP = frozenset({"constant", "greedy", "reduce_lr_on_plateau"})
_WITH_TARGETS = ("apollo", "galore", "lomo")
"""Optimizers of some modules, by what their names begin with."""
_INTERVALS = ("eval", "logging", "save")


def say_unused(arguments: Mapping[str, Any]) -> None:
    """Name in one warning what was given in vain."""
    if idle := unused(arguments):
        logger.warning("without effect: %s", "; ".join(idle))


def unused(arguments: Mapping[str, Any]) -> list[str]:
    """Return, in words, which of the arguments that were given have no effect, and why."""
    return [f"training.{name} ({why})" for name, why in _idle(arguments) if arguments.get(name)]


def _idle(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    schedule = training_value(arguments, "lr_scheduler_type")
    if schedule in _WITHOUT_WARMUP:
        yield "warmup_steps", f"the schedule {schedule} has no warm-up"
    if training_value(arguments, "max_steps") > 0:
        yield "num_train_epochs", "max_steps decides"
    optimizer = arguments.get("optim")
    if optimizer is None or optimizer in _WITHOUT_ARGUMENTS:
        yield "optim_args", f"{optimizer or 'the optimizer'} takes none"
    if optimizer in _WITHOUT_ADAM:
        yield from ((name, f"{optimizer} is not Adam") for name in _ADAM)
    if not str(optimizer).startswith(_WITH_TARGETS):
        yield "optim_target_modules", f"{optimizer or 'the optimizer'} has all modules"
    yield "length_column_name", "group_by_length takes the number of frames"
    for kind in _INTERVALS:
        if (strategy := training_value(arguments, f"{kind}_strategy")) != "steps":
            yield f"{kind}_steps", f"{kind}_strategy is {strategy}"
