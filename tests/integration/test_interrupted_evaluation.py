"""A request to stop while an evaluation is under way: it is left, and done by the next attempt."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from mmrun.training.stopping import StopWish
from tests.integration import attempts
from tests.integration.attempts import Attempt, Lab

BATCHES: dict[str, Any] = {"per_device_eval_batch_size": 2, "metric_for_best_model": "eval_loss"}
BY_STEPS = {**BATCHES, "eval_strategy": "steps", "eval_steps": 2}
BY_EPOCH = {**BATCHES, "eval_strategy": "epoch"}
PATIENCE = {"learning_rate": 0.0, "early_stopping_patience": 2}


class _StopInEvaluation(TrainerCallback):
    """Wishes to stop at the first batch of the evaluation of a step."""

    def __init__(self, wish: StopWish, *, step: int) -> None:
        self._wish = wish
        self._step = step

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == self._step:
            self._wish.reason = "a test"


@pytest.fixture
def stopping_in_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``stop_at`` of the lab be the step whose evaluation is interrupted."""
    monkeypatch.setattr(attempts, "_Stop", _StopInEvaluation)


def evaluated(*made: Attempt) -> list[tuple[int, float]]:
    """Return step and loss of every evaluation that was logged."""
    return [pair for attempt in made for pair in attempt.values("eval_loss").items()]


@pytest.mark.usefixtures("stopping_in_evaluation")
@pytest.mark.parametrize(
    ("training", "step"),
    [
        pytest.param(BY_STEPS, 4, id="in an epoch"),
        pytest.param(BY_STEPS, 6, id="at the last step of an epoch"),
        pytest.param(BY_EPOCH, 6, id="at the end of an epoch"),
        pytest.param({**BY_EPOCH, "max_steps": 8}, 8, id="at the last step of all"),
        pytest.param({**BY_STEPS, "max_steps": 8}, 8, id="at the last step, by steps"),
        pytest.param({**BY_STEPS, **PATIENCE}, 4, id="while early stopping counts"),
        pytest.param({**BY_STEPS, **PATIENCE}, 6, id="when early stopping would end it"),
    ],
)
def test_the_next_attempt_does_it_and_goes_on_alike(
    lab: Lab, training: Mapping[str, Any], step: int
) -> None:
    alone = lab.attempt(**training)

    stopped = lab.attempt(stop_at=step, **training)
    resumed = lab.attempt(stopped.checkpoint, **training)

    assert stopped.step == step
    assert step not in stopped.values("eval_loss")
    assert evaluated(stopped, resumed) == evaluated(alone)
    assert resumed.step == alone.step
    assert {**stopped.values("loss"), **resumed.values("loss")} == alone.values("loss")
    assert resumed.trainer.state.best_metric == alone.trainer.state.best_metric
    assert resumed.trainer.state.best_global_step == alone.trainer.state.best_global_step
    assert all(torch.equal(resumed.weights[name], alone.weights[name]) for name in alone.weights)


@pytest.mark.usefixtures("stopping_in_evaluation")
def test_one_that_is_interrupted_again_is_still_left(lab: Lab) -> None:
    alone = lab.attempt(**BY_STEPS)

    stopped = lab.attempt(stop_at=4, **BY_STEPS)
    again = lab.attempt(stopped.checkpoint, stop_at=4, **BY_STEPS)
    resumed = lab.attempt(again.checkpoint, **BY_STEPS)

    assert again.step == 4
    assert evaluated(stopped, again, resumed) == evaluated(alone)
    assert all(torch.equal(resumed.weights[name], alone.weights[name]) for name in alone.weights)


@pytest.mark.usefixtures("stopping_in_evaluation")
@pytest.mark.parametrize(
    "changed", [{"eval_strategy": "no", "metric_for_best_model": None}, {"eval_steps": 3}]
)
def test_one_that_is_not_wanted_any_more_is_not_done(lab: Lab, changed: dict[str, Any]) -> None:
    stopped = lab.attempt(stop_at=4, **BY_STEPS)

    resumed = lab.attempt(stopped.checkpoint, **{**BY_STEPS, **changed})

    assert resumed.step == 9
    assert 4 not in resumed.values("eval_loss")
