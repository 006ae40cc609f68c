"""The options of each schedule: a wrong one is refused before the run is opened; no torch."""

from collections.abc import Mapping
from typing import Any

from mmrun.config.training_fields import training_value
from mmrun.config.values import nearest
from mmrun.errors import ConfigError
from mmrun.training.schedules import LOOKING_BACK

KEY = "training.lr_scheduler_kwargs"
_SHAPES = ("linear", "cosine", "1-sqrt")
_FLOOR = ("min_lr", "min_lr_rate", "num_cycles")
OPTIONS: Mapping[str, frozenset[str]] = {
    "constant": frozenset(),
    "constant_with_warmup": frozenset(),
    "cosine": frozenset({"num_cycles"}),
    "cosine_warmup_with_min_lr": frozenset({*_FLOOR, "warmup_lr_rate"}),
    "cosine_with_min_lr": frozenset(_FLOOR),
    "cosine_with_restarts": frozenset({"num_cycles"}),
    "greedy": frozenset(
        {
            "cooldown",
            "eps",
            "factor",
            "max_lr",
            "min_lr",
            "mode",
            "patience",
            "reset_start",
            "smooth",
            "threshold",
            "threshold_mode",
            "verbose",
            "warmup",
            "window_size",
        }
    ),
    "inverse_sqrt": frozenset({"timescale"}),
    "linear": frozenset(),
    "polynomial": frozenset({"lr_end", "power"}),
    "reduce_lr_on_plateau": frozenset(
        {"cooldown", "eps", "factor", "min_lr", "mode", "patience", "threshold", "threshold_mode"}
    ),
    "warmup_stable_decay": frozenset(
        {
            "decay_type",
            "min_lr_ratio",
            "num_cycles",
            "num_decay_steps",
            "num_stable_steps",
            "warmup_type",
        }
    ),
}
"""By schedule, what `lr_scheduler_kwargs` may hold; transformers passes over some others."""


def check_schedule(arguments: Mapping[str, Any]) -> None:
    """Refuse a schedule with options that it has not, or that it cannot work with.

    Raises:
        ConfigError: naming the option.
    """
    kind = training_value(arguments, "lr_scheduler_type")
    options = training_value(arguments, "lr_scheduler_kwargs") or {}
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"{KEY}: must be a mapping, not {options!r}", hint='write {"num_cycles": 2}, say'
        )
    for name in options:
        if name not in OPTIONS[kind]:
            raise ConfigError(f"{KEY}: {kind} has no option {name!r}", hint=_instead(kind, name))
    if kind in LOOKING_BACK:
        return
    for name, value in options.items():
        _check_value(name, value)
    _check_floor(kind, options, rate=training_value(arguments, "learning_rate"))


def _instead(kind: str, name: str) -> str:
    known = OPTIONS[kind]
    close = nearest(str(name), known)
    if close is not None:
        return f"did you mean {close}?"
    return f"it has {', '.join(sorted(known))}" if known else "leave lr_scheduler_kwargs out"


def _check_value(name: str, value: Any) -> None:
    if name.endswith("_type"):
        fits, hint = value in _SHAPES, f"use one of: {', '.join(_SHAPES)}"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits, hint = number or value is None, "write a number"
    if not fits:
        raise ConfigError(f"{KEY}: {name} cannot be {value!r}", hint=hint)


def _check_floor(kind: str, options: Mapping[str, Any], *, rate: float) -> None:
    """Refuse a schedule that does not know how far down it is to come."""
    floors = [name for name in ("min_lr", "min_lr_rate") if options.get(name) is not None]
    if "min_lr_rate" in OPTIONS[kind] and len(floors) != 1:
        raise ConfigError(
            f"{KEY}: {kind} needs one of min_lr and min_lr_rate, not {len(floors)} of them",
            hint='write {"min_lr": 1e-6}, say',
        )
    if kind == "warmup_stable_decay" and options.get("num_decay_steps") is None:
        raise ConfigError(
            f"{KEY}: warmup_stable_decay needs num_decay_steps",
            hint='write {"num_decay_steps": 1000}, say',
        )
    lowest = options.get("lr_end", 1e-7) if kind == "polynomial" else options.get("min_lr")
    if lowest is not None and not rate > lowest:
        raise ConfigError(
            f"training.learning_rate: {rate:g} is not above the {lowest:g} that {kind} comes "
            "down to",
            hint=f"raise the rate, or set a lower end in {KEY}",
        )
