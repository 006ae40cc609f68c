"""What a schedule that looks back takes from the attempt before, and what not."""

from typing import Any

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from transformers.optimization import GreedyLR

from mmrun.training.looking_back import kept_rate, kind, memory


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def greedy(*, losses: tuple[float, ...] = (), **options: Any) -> GreedyLR:
    scheduler = GreedyLR(optimizer(), **{"smooth": True, "window_size": 3, **options})
    for loss in losses:
        scheduler.step(loss)
    return scheduler


def test_the_three_kinds_are_told_apart() -> None:
    formula = LambdaLR(optimizer(), lambda _step: 1.0)

    assert kind(formula.state_dict()) == "formula"
    assert kind(ReduceLROnPlateau(optimizer()).state_dict()) == "reduce_lr_on_plateau"
    assert kind(greedy().state_dict()) == "greedy"


def test_nothing_of_the_memory_is_lost() -> None:
    losses = (1.0, 0.1 + 0.2, 0.7, 0.9, 0.8)
    alone = greedy(losses=losses)
    before, again = greedy(losses=losses[:4]), greedy()

    again.load_state_dict(memory(before.state_dict(), now=again.state_dict()))
    again.step(losses[4])

    theirs, mine = alone.state_dict(), again.state_dict()
    assert mine == theirs


def test_arguments_are_those_of_today() -> None:
    before = greedy(losses=(1.0, 2.0), patience=5, factor=0.9)
    again = greedy(patience=1, factor=0.5, window_size=1, min_lr=0.01)

    again.load_state_dict(memory(before.state_dict(), now=again.state_dict()))

    assert (again.patience, again.factor, again.min_lrs) == (1, 0.5, [0.01])
    assert again.best == before.best
    assert again._streaming_avg is not None
    assert (again._streaming_avg.values, again._streaming_avg.sum) == ([2.0], 2.0)


def test_a_count_down_goes_on_from_its_argument_of_today() -> None:
    before = greedy(reset_start=10).state_dict() | {"reset_start": 7}

    kept = memory(before, now=greedy(reset_start=5).state_dict())

    assert kept["reset_start"] == 2


@pytest.mark.parametrize(("then", "now"), [(True, False), (False, True)])
def test_a_mean_that_is_not_wanted_or_was_not_kept_is_left_out(then: bool, now: bool) -> None:
    before, again = greedy(smooth=then, losses=(1.0,)), greedy(smooth=now)

    again.load_state_dict(memory(before.state_dict(), now=again.state_dict()))

    assert (again._streaming_avg is not None) is now


@pytest.mark.parametrize(
    ("came_to", "base", "base_now", "kept"),
    [
        pytest.param(0.025, 0.1, 0.1, 0.025, id="nothing changed"),
        pytest.param(0.025, 0.1, 0.2, 0.05, id="in proportion"),
        pytest.param(0.025, None, 0.2, 0.025, id="of plain Hugging Face"),
    ],
)
def test_the_rate_that_was_come_to_is_kept(
    came_to: float, base: float | None, base_now: float, kept: float
) -> None:
    assert kept_rate(came_to, base=base, base_now=base_now) == kept
