"""The learning rate as a function of the step: a formula per schedule, without torch.

A schedule of transformers is hidden in a closure over an optimizer. Here it is a pure function, so
that a plan can say the next rate before anything heavy is loaded, and a misspelt option of a
schedule is refused before the run is opened.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmrun.config.training_fields import training_value

LOOKING_BACK = frozenset({"greedy", "reduce_lr_on_plateau"})
"""Schedules that follow a metric: their rate is no function of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule with everything that its formula takes."""

    kind: str
    """The argument ``lr_scheduler_type``."""
    rate: float
    """The argument ``learning_rate``."""
    total: int
    """Steps of the whole training."""
    warmup: int = 0
    """Steps of warm-up."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The argument ``lr_scheduler_kwargs``."""

    @classmethod
    def of(cls, arguments: Mapping[str, Any], *, total: int) -> "Schedule":
        """Return the schedule that the training's ``arguments`` ask for."""
        return cls(
            kind=training_value(arguments, "lr_scheduler_type"),
            rate=training_value(arguments, "learning_rate"),
            total=total,
            warmup=warmup_steps(training_value(arguments, "warmup_steps"), total=total),
            options=training_value(arguments, "lr_scheduler_kwargs") or {},
        )


Formula = Callable[[int, Schedule], float]


def warmup_steps(given: float, *, total: int) -> int:
    """Return the steps of warm-up; below 1, ``given`` is a share of all steps."""
    return int(given) if given >= 1 else math.ceil(total * given)


def factor(schedule: Schedule, *, done: int) -> float | None:
    """Return what ``learning_rate`` is multiplied by once ``done`` steps were done.

    None for a schedule that looks back. The step after ``done`` is taken, and logged, with it.
    """
    if schedule.kind in LOOKING_BACK:
        return None
    if done < schedule.warmup:
        return _WARMUP.get(schedule.kind, _ramp)(done, schedule)
    return _FORMULAS[schedule.kind](done, schedule)


# The warm-up


def _ramp(done: int, schedule: Schedule) -> float:
    return done / schedule.warmup


def _raised_ramp(done: int, schedule: Schedule) -> float:
    """Begin above 0: with the first fraction of the ramp, or where ``warmup_lr_rate`` says."""
    low = schedule.options.get("warmup_lr_rate")
    if low is None:
        return (done + 1) / schedule.warmup
    return float(low) + (1 - float(low)) * done / max(1, schedule.warmup - 1)


def _shaped_ramp(done: int, schedule: Schedule) -> float:
    shape, progress = schedule.options.get("warmup_type", "linear"), _ramp(done, schedule)
    if shape == "cosine":
        progress = 0.5 * (1 - math.cos(math.pi * progress))
    elif shape == "1-sqrt":
        progress = 1 - math.sqrt(1 - progress)
    return _above_floor(progress, schedule.options.get("min_lr_ratio", 0.0))


# After the warm-up


def _constant(_done: int, _schedule: Schedule) -> float:
    return 1.0


def _linear(done: int, schedule: Schedule) -> float:
    return max(0.0, (schedule.total - done) / max(1, schedule.total - schedule.warmup))


def _cosine(done: int, schedule: Schedule) -> float:
    return _wave(_progress(done, schedule), cycles=schedule.options.get("num_cycles", 0.5))


def _cosine_with_restarts(done: int, schedule: Schedule) -> float:
    progress = _progress(done, schedule)
    if progress >= 1:
        return 0.0
    return _wave(schedule.options.get("num_cycles", 1) * progress % 1.0, cycles=0.5)


def _cosine_with_min_lr(done: int, schedule: Schedule) -> float:
    return _above_floor(_cosine(done, schedule), _lowest(schedule))


def _cosine_warmup_with_min_lr(done: int, schedule: Schedule) -> float:
    return _cosine_with_min_lr(done + 1, schedule)


def _polynomial(done: int, schedule: Schedule) -> float:
    end, power = schedule.options.get("lr_end", 1e-7), schedule.options.get("power", 1.0)
    if done > schedule.total:
        return float(end / schedule.rate)
    left = 1 - _progress(done, schedule)
    return float(((schedule.rate - end) * left**power + end) / schedule.rate)


def _inverse_sqrt(done: int, schedule: Schedule) -> float:
    scale = schedule.options.get("timescale") or schedule.warmup or 10_000
    return 1 / math.sqrt((done + scale - schedule.warmup) / scale)


def _warmup_stable_decay(done: int, schedule: Schedule) -> float:
    decay = schedule.options["num_decay_steps"]
    stable = schedule.options.get("num_stable_steps")
    if stable is None:
        stable = schedule.total - schedule.warmup - decay
    into_decay = done - schedule.warmup - stable
    if into_decay < 0:
        return 1.0
    floor = float(schedule.options.get("min_lr_ratio", 0.0))
    if into_decay >= decay:
        return floor
    return _above_floor(_shaped_fall(into_decay / decay, schedule.options), floor)


def _shaped_fall(progress: float, options: Mapping[str, Any]) -> float:
    shape = options.get("decay_type", "cosine")
    if shape == "cosine":
        return _wave(progress, cycles=options.get("num_cycles", 0.5))
    return 1 - (progress if shape == "linear" else math.sqrt(progress))


def _progress(done: int, schedule: Schedule) -> float:
    return (done - schedule.warmup) / max(1, schedule.total - schedule.warmup)


def _wave(progress: float, *, cycles: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * cycles * 2 * progress))


def _above_floor(value: float, floor: float) -> float:
    return value * (1 - floor) + floor


def _lowest(schedule: Schedule) -> float:
    """Return the share of the rate that the schedule comes down to."""
    lowest = schedule.options.get("min_lr")
    share = schedule.options.get("min_lr_rate") if lowest is None else lowest / schedule.rate
    return float(share or 0.0)


_WARMUP: Mapping[str, Formula] = {
    "constant": _constant,
    "cosine_warmup_with_min_lr": _raised_ramp,
    "warmup_stable_decay": _shaped_ramp,
}
_FORMULAS: Mapping[str, Formula] = {
    "constant": _constant,
    "constant_with_warmup": _constant,
    "cosine": _cosine,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_with_restarts": _cosine_with_restarts,
    "inverse_sqrt": _inverse_sqrt,
    "linear": _linear,
    "polynomial": _polynomial,
    "warmup_stable_decay": _warmup_stable_decay,
}
