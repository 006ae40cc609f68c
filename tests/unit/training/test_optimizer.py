"""State of a checkpoint, hyperparameters of today."""

import logging
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from mmrun.training.optimizer import (
    OPTIMIZER,
    SCHEDULER,
    continue_optimizer,
    parameter_groups,
)
from mmrun.training.position import Position

STEP = 4
FOREIGN = Position(step=STEP, epoch=0, samples=8, epoch_done=False)
"""Of a checkpoint of plain Hugging Face, which names neither optimizer nor parameters."""


class Net(nn.Module):
    """Two layers, one of which may be frozen."""

    def __init__(self, *, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.first.requires_grad_(not frozen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return some numbers."""
        out: torch.Tensor = self.second(self.first(x))
        return out


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def constant(optimizer: Optimizer) -> LRScheduler:
    return LambdaLR(optimizer, lambda _step: 1.0)


def falling(optimizer: Optimizer, *, steps: int = 10) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))


def train(model: Net, optimizer: Optimizer, scheduler: LRScheduler, *, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
        scheduler.step()


def save(folder: Path, model: Net, optimizer: Optimizer, scheduler: LRScheduler) -> Position:
    torch.save(optimizer.state_dict(), folder / OPTIMIZER)
    torch.save(scheduler.state_dict(), folder / SCHEDULER)
    return Position(
        step=STEP,
        epoch=0,
        samples=8,
        epoch_done=False,
        optimizer=type(optimizer).__name__,
        parameters=parameter_groups(optimizer, model),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Position:
    """Train four steps with AdamW and a constant rate of 0.1, and save in ``tmp_path``."""
    model = Net()
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.0, betas=(0.9, 0.99))
    scheduler = constant(optimizer)
    train(model, optimizer, scheduler, steps=STEP)
    return save(tmp_path, model, optimizer, scheduler)


def test_hyperparameters_are_those_of_today(tmp_path: Path, saved: Position) -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), lr=0.05, weight_decay=0.3, betas=(0.8, 0.7), eps=1e-5)

    continue_optimizer(
        tmp_path, optimizer=optimizer, scheduler=constant(optimizer), model=model, before=saved
    )

    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.05, 0.3)
    assert (group["betas"], group["eps"]) == ((0.8, 0.7), 1e-5)


def test_the_state_is_that_of_the_checkpoint(tmp_path: Path, saved: Position) -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), lr=0.05)

    continue_optimizer(
        tmp_path, optimizer=optimizer, scheduler=constant(optimizer), model=model, before=saved
    )

    before = torch.load(tmp_path / OPTIMIZER, weights_only=True)["state"]
    now = optimizer.state_dict()["state"]
    assert now.keys() == before.keys()
    assert all(torch.equal(now[i]["exp_avg"], before[i]["exp_avg"]) for i in now)
    assert all(now[i]["step"] == STEP for i in now)


@pytest.mark.parametrize("schedule", [constant, falling])
@pytest.mark.parametrize("rate", [0.1, 0.02])
def test_the_rate_is_the_one_that_a_fresh_run_has_at_this_step(
    tmp_path: Path, saved: Position, schedule: Callable[[Optimizer], LRScheduler], rate: float
) -> None:
    fresh_model, model = Net(), Net()
    fresh = AdamW(fresh_model.parameters(), lr=rate)
    fresh_schedule = schedule(fresh)
    train(fresh_model, fresh, fresh_schedule, steps=STEP)
    optimizer = AdamW(model.parameters(), lr=rate)
    scheduler = schedule(optimizer)

    continue_optimizer(
        tmp_path, optimizer=optimizer, scheduler=scheduler, model=model, before=saved
    )

    assert optimizer.param_groups[0]["lr"] == fresh.param_groups[0]["lr"]
    assert scheduler.get_last_lr() == fresh_schedule.get_last_lr()
    for _ in range(3):
        train(model, optimizer, scheduler, steps=1)
        train(fresh_model, fresh, fresh_schedule, steps=1)
        assert scheduler.get_last_lr() == fresh_schedule.get_last_lr()


def test_nothing_changed_means_the_same_weights_as_without_a_stop(tmp_path: Path) -> None:
    alone = Net()
    optimizer = AdamW(alone.parameters(), lr=0.1)
    scheduler = falling(optimizer)
    train(alone, optimizer, scheduler, steps=STEP)
    before = save(tmp_path, alone, optimizer, scheduler)
    resumed = Net()
    resumed.load_state_dict(alone.state_dict())
    train(alone, optimizer, scheduler, steps=3)
    optimizer = AdamW(resumed.parameters(), lr=0.1)
    scheduler = falling(optimizer)

    continue_optimizer(
        tmp_path, optimizer=optimizer, scheduler=scheduler, model=resumed, before=before
    )
    train(resumed, optimizer, scheduler, steps=3)

    theirs = alone.state_dict()
    assert all(torch.equal(mine, theirs[name]) for name, mine in resumed.state_dict().items())


@pytest.mark.parametrize(("then", "now"), [(False, True), (True, False)])
def test_state_goes_to_the_parameter_of_the_same_name(
    tmp_path: Path, then: bool, now: bool
) -> None:
    before_model, model = Net(frozen=then), Net(frozen=now)
    before_optimizer = AdamW(trainable(before_model), lr=0.1)
    scheduler = constant(before_optimizer)
    train(before_model, before_optimizer, scheduler, steps=STEP)
    before = save(tmp_path, before_model, before_optimizer, scheduler)
    optimizer = AdamW(trainable(model), lr=0.1)

    continue_optimizer(
        tmp_path, optimizer=optimizer, scheduler=constant(optimizer), model=model, before=before
    )

    moments = optimizer.state[model.second.weight]["exp_avg"]
    assert torch.equal(moments, before_optimizer.state[before_model.second.weight]["exp_avg"])
    assert model.first.weight not in optimizer.state
    train(model, optimizer, constant(optimizer), steps=1)


def test_another_number_of_groups_keeps_the_state(tmp_path: Path, saved: Position) -> None:
    model = Net()
    optimizer = AdamW([{"params": [p]} for p in model.parameters()], lr=0.05, weight_decay=0.2)

    continue_optimizer(
        tmp_path, optimizer=optimizer, scheduler=constant(optimizer), model=model, before=saved
    )

    assert [group["lr"] for group in optimizer.param_groups] == [0.05] * 4
    assert all(optimizer.state[p]["step"] == STEP for p in model.parameters())


def test_another_optimizer_starts_fresh_and_says_so(
    tmp_path: Path, saved: Position, caplog: pytest.LogCaptureFixture
) -> None:
    model = Net()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)

    with caplog.at_level(logging.WARNING):
        continue_optimizer(
            tmp_path, optimizer=optimizer, scheduler=falling(optimizer), model=model, before=saved
        )

    assert not optimizer.state
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.05 * 0.6)
    assert "AdamW → SGD; its state starts fresh at step 4" in caplog.text


def test_a_checkpoint_of_plain_hugging_face_names_no_parameters(tmp_path: Path) -> None:
    model = Net()
    optimizer = Adam(model.parameters(), lr=0.1)
    train(model, optimizer, constant(optimizer), steps=STEP)
    save(tmp_path, model, optimizer, constant(optimizer))
    fresh = Adam(model.parameters(), lr=0.1)

    continue_optimizer(
        tmp_path, optimizer=fresh, scheduler=constant(fresh), model=model, before=FOREIGN
    )

    assert all(fresh.state[p]["step"] == STEP for p in model.parameters())


@pytest.mark.parametrize(
    ("now", "frozen", "said"),
    [
        pytest.param(SGD, False, "the checkpoint's is no SGD", id="another kind"),
        pytest.param(Adam, True, "the checkpoint's has other parameters", id="frozen since"),
    ],
)
def test_a_foreign_state_that_is_for_another_optimizer_starts_fresh(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    now: Callable[..., Optimizer],
    frozen: bool,
    said: str,
) -> None:
    model = Net()
    optimizer = Adam(model.parameters(), lr=0.1)
    train(model, optimizer, constant(optimizer), steps=STEP)
    save(tmp_path, model, optimizer, constant(optimizer))
    model = Net(frozen=frozen)
    fresh = now(trainable(model), lr=0.05)

    continue_optimizer(
        tmp_path, optimizer=fresh, scheduler=constant(fresh), model=model, before=FOREIGN
    )

    assert not fresh.state
    assert fresh.param_groups[0]["lr"] == 0.05
    assert f"{said}; its state starts fresh at step 4" in caplog.text


def test_a_foreign_state_of_another_torch_goes_on(tmp_path: Path) -> None:
    model = Net()
    optimizer = Adam(model.parameters(), lr=0.1)
    train(model, optimizer, constant(optimizer), steps=STEP)
    for group in optimizer.param_groups:
        del group["foreach"]  # as if that torch had not known it yet
    save(tmp_path, model, optimizer, constant(optimizer))
    fresh = Adam(model.parameters(), lr=0.1)

    continue_optimizer(
        tmp_path, optimizer=fresh, scheduler=constant(fresh), model=model, before=FOREIGN
    )

    assert all(fresh.state[p]["step"] == STEP for p in model.parameters())


def test_a_schedule_with_a_memory_goes_on_as_it_was(tmp_path: Path) -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), lr=0.1)
    plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    for loss in (1.0, 2.0, 3.0):
        plateau.step(loss)
    before = save(tmp_path, model, optimizer, plateau)
    optimizer = AdamW(model.parameters(), lr=0.1)
    again = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)

    continue_optimizer(tmp_path, optimizer=optimizer, scheduler=again, model=model, before=before)

    assert optimizer.param_groups[0]["lr"] == 0.1 * 0.25
    assert again.best == 1.0


def test_a_rate_that_was_come_to_is_kept_by_another_number_of_groups(tmp_path: Path) -> None:
    model = Net()
    optimizer = AdamW(model.parameters(), lr=0.1)
    plateau = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    for loss in (1.0, 2.0):
        plateau.step(loss)
    before = save(tmp_path, model, optimizer, plateau)
    optimizer = AdamW([{"params": [p]} for p in model.parameters()], lr=0.1)
    again = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)

    continue_optimizer(tmp_path, optimizer=optimizer, scheduler=again, model=model, before=before)

    assert [group["lr"] for group in optimizer.param_groups] == [0.05] * 4
    assert again.get_last_lr() == [0.05] * 4
