"""The formulas against the schedulers of transformers themselves, step by step."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch.optim import SGD
from transformers import SchedulerType, get_scheduler

from mmrun.config.training_fields import training_fields
from mmrun.training.schedules import LOOKING_BACK, Schedule, factor, warmup_steps

RATE = 0.003
BEYOND = 4
"""How many steps after the last one are looked at: `max_steps` may be lowered at a resume."""


def rates_of_transformers(schedule: Schedule) -> list[float]:
    """Return the rate that each step is taken with."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=schedule.rate)
    scheduler = get_scheduler(
        schedule.kind,
        optimizer,
        num_warmup_steps=schedule.warmup,
        num_training_steps=schedule.total,
        scheduler_specific_kwargs=dict(schedule.options),
    )
    rates = []
    for _ in range(schedule.total + BEYOND):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", {}),
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("cosine", {}),
        ("cosine", {"num_cycles": 2.25}),
        ("cosine_with_restarts", {}),
        ("cosine_with_restarts", {"num_cycles": 3}),
        ("polynomial", {}),
        ("polynomial", {"lr_end": 1e-5, "power": 2.5}),
        ("inverse_sqrt", {}),
        ("inverse_sqrt", {"timescale": 5}),
        ("cosine_with_min_lr", {"min_lr": 1e-4}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 1.5}),
        ("cosine_warmup_with_min_lr", {"min_lr": 0.0}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2, "warmup_lr_rate": 0.05}),
        ("warmup_stable_decay", {"num_decay_steps": 6}),
        ("warmup_stable_decay", {"num_decay_steps": 5, "min_lr_ratio": 0.1, "num_cycles": 1.5}),
        (
            "warmup_stable_decay",
            {
                "num_decay_steps": 5,
                "num_stable_steps": 2,
                "warmup_type": "cosine",
                "decay_type": "linear",
            },
        ),
        (
            "warmup_stable_decay",
            {
                "num_decay_steps": 8,
                "warmup_type": "1-sqrt",
                "decay_type": "1-sqrt",
                "min_lr_ratio": 0.3,
            },
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else ",".join(given) or "as it is",
)
@pytest.mark.parametrize("warmup", [0, 1, 7, 25])
@pytest.mark.parametrize("total", [17, 20])
def test_every_step_has_the_rate_of_transformers(
    kind: str, options: Mapping[str, Any], warmup: int, total: int
) -> None:
    schedule = Schedule(kind=kind, rate=RATE, total=total, warmup=warmup, options=options)

    rates = [RATE * (factor(schedule, done=done) or 0.0) for done in range(total + BEYOND)]

    assert rates == rates_of_transformers(schedule)  # to the last bit


@pytest.mark.parametrize("kind", sorted(LOOKING_BACK))
def test_a_schedule_that_looks_back_has_no_formula(kind: str) -> None:
    assert factor(Schedule(kind=kind, rate=RATE, total=10), done=3) is None


def test_every_schedule_of_transformers_is_known() -> None:
    known = set(training_fields()["lr_scheduler_type"].choices)

    assert known == {kind.value for kind in SchedulerType}
    for kind in known - LOOKING_BACK:
        options = {"num_decay_steps": 2} if kind == "warmup_stable_decay" else {}
        assert factor(Schedule(kind=kind, rate=RATE, total=10, options=options), done=5) is not None


@pytest.mark.parametrize(
    ("given", "total", "steps"),
    [
        pytest.param(0, 100, 0, id="none"),
        pytest.param(30, 100, 30, id="a number"),
        pytest.param(0.1, 101, 11, id="a share, rounded up"),
        pytest.param(1, 100, 1, id="one step, not all of them"),
        pytest.param(2.9, 100, 2, id="a number with a fraction"),
    ],
)
def test_warmup_is_a_number_of_steps_or_a_share(given: float, total: int, steps: int) -> None:
    assert warmup_steps(given, total=total) == steps
