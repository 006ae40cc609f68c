"""Every argument that is changed at a resume: in force at the first step, read off there."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.attempts import ROWS, Attempt, Lab

PLATEAU: dict[str, Any] = {
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "threshold": 100.0},
    "eval_strategy": "steps",
    "eval_steps": 1,
}
"""Nothing is ever better by a hundred times, so that the rate is halved after each step but one."""
GREEDY: dict[str, Any] = {
    **PLATEAU,
    "lr_scheduler_type": "greedy",
    "lr_scheduler_kwargs": {
        "patience": 0,
        "factor": 0.5,
        "threshold": 100.0,
        "min_lr": 1e-6,
        "reset_start": 50,
    },
}


@pytest.fixture(scope="module")
def stopped(lab: Lab) -> Attempt:
    """Four steps of AdamW with weight decay, at a constant rate of 0.01."""
    return lab.attempt(stop_at=4, weight_decay=0.1)


def decayed(attempt: Attempt) -> dict[str, Any]:
    """Return the group of the parameters that weight decay is for."""
    return attempt.first.groups[0]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, {"lr": 0.01, "weight_decay": 0.1}, id="nothing"),
        pytest.param({"learning_rate": 0.003}, {"lr": 0.003}, id="learning_rate"),
        pytest.param({"weight_decay": 0.3}, {"weight_decay": 0.3}, id="weight_decay"),
        pytest.param({"weight_decay": 0.0}, {"weight_decay": 0.0}, id="weight_decay, off"),
        pytest.param({"adam_beta1": 0.8}, {"betas": (0.8, 0.999)}, id="adam_beta1"),
        pytest.param({"adam_beta2": 0.9}, {"betas": (0.9, 0.9)}, id="adam_beta2"),
        pytest.param({"adam_epsilon": 1e-6}, {"eps": 1e-6}, id="adam_epsilon"),
        pytest.param({"optim": "adamw_torch"}, {"fused": None}, id="optim, not fused"),
        pytest.param({"optim": "adamw_torch_fused"}, {"fused": True}, id="optim, fused"),
        pytest.param(
            {"lr_scheduler_type": "linear", "max_steps": 8}, {"lr": 0.01 * 4 / 8}, id="max_steps"
        ),
        pytest.param(
            {"lr_scheduler_type": "linear", "max_steps": -1, "num_train_epochs": 2},
            {"lr": 0.01 * 8 / 12},
            id="num_train_epochs",
        ),
        pytest.param(
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 1.5}},
            {"lr": 0.01 * 0.5 * (1 + math.cos(math.pi * 3 * 4 / 9))},
            id="lr_scheduler_kwargs",
        ),
        pytest.param(
            {"lr_scheduler_type": "linear", "warmup_steps": 8},
            {"lr": 0.01 * 4 / 8},
            id="warmup_steps beyond the step",
        ),
        pytest.param(
            {"lr_scheduler_type": "linear", "warmup_steps": 0.2},
            {"lr": 0.01 * 5 / 7},
            id="warmup_steps as a share",
        ),
        pytest.param(
            {"lr_scheduler_type": "linear", "warmup_ratio": 0.6},
            {"lr": 0.01 * 4 / 6},
            id="warmup_ratio",
        ),
    ],
)
def test_the_optimizer_has_it(
    lab: Lab, stopped: Attempt, changed: dict[str, Any], expected: dict[str, Any]
) -> None:
    resumed = lab.attempt(stopped.checkpoint, **{"weight_decay": 0.1, **changed})

    group = decayed(resumed)
    for name, value in expected.items():
        near = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
        assert group[name] == near, name
    assert resumed.first.steps_before == {4.0}  # the state went on
    assert resumed.values("learning_rate")[5] == group["lr"]


def test_the_gradient_is_clipped_as_today(lab: Lab, stopped: Attempt) -> None:
    as_before = lab.attempt(stopped.checkpoint)
    clipped = lab.attempt(stopped.checkpoint, max_grad_norm=0.01)
    free = lab.attempt(stopped.checkpoint, max_grad_norm=0.0)

    assert as_before.first.gradient == pytest.approx(1.0, rel=1e-3)
    assert clipped.first.gradient == pytest.approx(0.01, rel=1e-3)
    assert free.first.gradient == pytest.approx(free.values("grad_norm")[5], rel=1e-5)
    assert free.first.gradient > 1.1


@pytest.mark.parametrize(
    ("changed", "samples"),
    [
        ({"per_device_train_batch_size": 3}, 3),
        ({"gradient_accumulation_steps": 2}, 7),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}, 6),
    ],
)
def test_the_batch_is_that_of_today(
    lab: Lab, stopped: Attempt, changed: dict[str, Any], samples: int
) -> None:
    resumed = lab.attempt(stopped.checkpoint, **changed)

    assert resumed.first.samples == samples  # 7 are left of the epoch


@pytest.mark.parametrize(
    ("then", "now", "known"),
    [
        pytest.param("adamw_torch", "adamw_torch_fused", True, id="fused"),
        pytest.param("adamw_torch_fused", "adamw_torch", True, id="not fused any more"),
        pytest.param("adafactor", "adafactor", True, id="adafactor"),
        pytest.param("adamw_torch", "adafactor", False, id="another"),
        pytest.param("adafactor", "sgd", False, id="one without a state"),
    ],
)
def test_the_state_goes_on_where_the_class_is_the_same(
    lab: Lab, then: str, now: str, known: bool
) -> None:
    first = lab.attempt(stop_at=2, optim=then)

    resumed = lab.attempt(first.checkpoint, optim=now, learning_rate=0.02, max_steps=3)

    assert resumed.first.steps_before == ({2.0} if known else set())
    assert {group["lr"] for group in resumed.first.groups} == {0.02}


@pytest.mark.parametrize("now", ["adafactor", "sgd"])
def test_the_state_of_a_plain_checkpoint_is_not_for_another_optimizer(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture, now: str
) -> None:
    plain = shutil.copytree(lab.attempt(stop_at=2).checkpoint, tmp_path / "checkpoint-2")
    (plain / "mmrun_state.json").unlink()

    resumed = lab.attempt(plain, optim=now, max_steps=3)

    assert resumed.step == 3
    assert resumed.first.steps_before == set()
    assert "its state starts fresh at step 2" in caplog.text


def test_arguments_of_an_optimizer_are_those_of_today(lab: Lab) -> None:
    first = lab.attempt(stop_at=2, optim="sgd", optim_args="momentum=0.9")

    resumed = lab.attempt(first.checkpoint, optim="sgd", optim_args="momentum=0.5", max_steps=3)

    assert decayed(resumed)["momentum"] == 0.5


@pytest.mark.parametrize("looking_back", [PLATEAU, GREEDY], ids=["plateau", "greedy"])
def test_a_rate_that_was_come_to_is_kept_in_proportion(
    lab: Lab, looking_back: dict[str, Any]
) -> None:
    first = lab.attempt(stop_at=4, **looking_back)
    alone = lab.attempt(max_steps=6, **looking_back)

    as_before = lab.attempt(first.checkpoint, max_steps=6, **looking_back)
    doubled = lab.attempt(first.checkpoint, max_steps=6, learning_rate=0.02, **looking_back)

    rates = alone.values("learning_rate")
    assert as_before.values("learning_rate") == {5: rates[5], 6: rates[6]}
    assert rates[6] < rates[5] < 0.01
    assert doubled.values("learning_rate") == {5: 2 * rates[5], 6: 2 * rates[6]}


@pytest.mark.parametrize("looking_back", [PLATEAU, GREEDY], ids=["plateau", "greedy"])
def test_options_of_a_schedule_that_looks_back_are_those_of_today(
    lab: Lab, looking_back: dict[str, Any]
) -> None:
    first = lab.attempt(stop_at=4, **looking_back)
    options = {**looking_back["lr_scheduler_kwargs"], "factor": 0.1}

    resumed = lab.attempt(
        first.checkpoint, max_steps=6, **{**looking_back, "lr_scheduler_kwargs": options}
    )

    rates = resumed.values("learning_rate")
    assert rates[6] == pytest.approx(rates[5] * 0.1)


@pytest.mark.parametrize(
    ("then", "now"), [(PLATEAU, GREEDY), ({}, PLATEAU), (GREEDY, {})], ids=["p-g", "c-p", "g-c"]
)
def test_a_schedule_of_another_kind_begins_with_the_rate_of_today(
    lab: Lab, caplog: pytest.LogCaptureFixture, then: dict[str, Any], now: dict[str, Any]
) -> None:
    first = lab.attempt(max_steps=4, **then)

    with caplog.at_level(logging.WARNING):
        resumed = lab.attempt(first.checkpoint, max_steps=5, learning_rate=0.003, **now)

    assert decayed(resumed)["lr"] == 0.003
    assert ("the schedule is of another kind now" in caplog.text) is (now != {})


def test_a_schedule_that_follows_another_metric_forgets_what_it_has_seen(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    scored = {
        **PLATEAU,
        "lr_scheduler_kwargs": {"mode": "max"},
        "predict_with_generate": True,
        "metric_name": "chrf",
    }
    first = lab.attempt(stop_at=4, **scored)

    with caplog.at_level(logging.WARNING):
        resumed = lab.attempt(first.checkpoint, max_steps=5, metric_for_best_model="chrf", **scored)

    assert "follows another metric now" in caplog.text
    assert resumed.trainer.lr_scheduler.best == resumed.values("eval_chrf")[5]


def test_the_best_in_the_other_direction_is_found_in_what_was_evaluated(lab: Lab) -> None:
    evaluated: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}
    first = lab.attempt(stop_at=4, **evaluated)

    resumed = lab.attempt(first.checkpoint, max_steps=5, greater_is_better=True, **evaluated)

    losses = {**first.values("eval_loss"), **resumed.values("eval_loss")}
    assert resumed.trainer.state.best_metric == max(losses.values())


def test_patience_is_counted_by_the_metric_of_today(lab: Lab) -> None:
    waiting: dict[str, Any] = {
        "learning_rate": 0.0,  # nothing changes, so no metric gets better
        "eval_strategy": "steps",
        "eval_steps": 1,
        "early_stopping_patience": 5,
        "predict_with_generate": True,
        "metric_name": "chrf",
    }
    first = lab.attempt(stop_at=3, **waiting)

    second = lab.attempt(first.checkpoint, metric_for_best_model="chrf", **waiting)

    assert second.step == 6  # the first one, and five that are not better


@pytest.mark.parametrize(
    ("changed", "key", "steps"),
    [
        pytest.param({"logging_steps": 3}, "loss", [6, 9], id="logging_steps"),
        pytest.param({"logging_strategy": "epoch"}, "loss", [6, 9], id="logging_strategy"),
        pytest.param({"logging_strategy": "no"}, "loss", [], id="no logging"),
        pytest.param({"eval_steps": 4}, "eval_loss", [8, 9], id="eval_steps"),
        pytest.param({"eval_strategy": "epoch"}, "eval_loss", [6, 9], id="eval_strategy"),
        pytest.param({"eval_strategy": "no"}, "eval_loss", [], id="no evaluation"),
        pytest.param({"eval_delay": 6}, "eval_loss", [6, 8, 9], id="eval_delay"),
    ],
)
def test_intervals_are_those_of_today(
    lab: Lab, changed: dict[str, Any], key: str, steps: list[int]
) -> None:
    before: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
    first = lab.attempt(max_steps=4, **before)

    resumed = lab.attempt(first.checkpoint, **{**before, **changed})

    assert list(resumed.values(key)) == steps


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        pytest.param({"save_steps": 7}, [7, 9], id="save_steps"),
        pytest.param({"save_steps": 0.5}, [5, 9], id="save_steps as a share"),
        pytest.param({"save_strategy": "epoch"}, [6, 9], id="save_strategy"),
        pytest.param({"save_strategy": "no"}, [9], id="no saving"),
    ],
)
def test_saving_is_that_of_today(lab: Lab, changed: dict[str, Any], steps: list[int]) -> None:
    before: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2}
    first = lab.attempt(max_steps=4, **before)

    resumed = lab.attempt(first.checkpoint, **{**before, **changed})

    assert sorted(resumed.saved) == steps


def test_evaluation_is_that_of_today(lab: Lab) -> None:
    evaluated: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}
    first = lab.attempt(max_steps=2, **evaluated)
    scored: dict[str, Any] = {"predict_with_generate": True, "metric_name": "chrf"}

    resumed = lab.attempt(
        first.checkpoint, max_steps=3, per_device_eval_batch_size=2, **scored, **evaluated
    )

    assert not first.values("eval_chrf")
    assert list(resumed.values("eval_chrf")) == [3]
    speed = {name: value for name, _, value in resumed.logged}
    batches = speed["eval_steps_per_second"] * speed["eval_runtime"]
    assert batches == pytest.approx(3, rel=0.05)  # five samples, two at once


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 4},
        {"data_seed": 4},
        {"train_sampling_strategy": "sequential"},
        {"train_sampling_strategy": "group_by_length"},
    ],
    ids=lambda changed: " ".join(map(str, *changed.items())),
)
def test_another_order_begins_with_the_next_epoch(
    lab: Lab, stopped: Attempt, changed: dict[str, Any]
) -> None:
    second = lab.attempt(stopped.checkpoint, stop_at=5, **changed)
    third = lab.attempt(second.checkpoint, max_steps=12, **changed)
    fresh = lab.attempt(max_steps=12, **changed)

    epoch = ROWS["train"]
    trained = stopped.trained + second.trained + third.trained
    assert sorted(trained[:epoch]) == list(range(epoch))
    assert trained[epoch:] == fresh.trained[epoch:]
    assert trained[:epoch] == lab.attempt(max_steps=6).trained


def test_another_seed_is_that_of_the_generators_too(lab: Lab, stopped: Attempt) -> None:
    as_before = lab.attempt(stopped.checkpoint, max_steps=5)
    changed = [lab.attempt(stopped.checkpoint, max_steps=6, seed=4) for _ in range(2)]
    going_on = lab.attempt(
        lab.attempt(stopped.checkpoint, stop_at=5, seed=4).checkpoint, max_steps=6, seed=4
    )

    assert changed[0].trained[:4] == as_before.trained
    assert changed[0].values("loss")[5] != as_before.values("loss")[5]  # other dropout
    assert changed[0].values("loss") == changed[1].values("loss")
    assert going_on.values("loss")[6] == changed[0].values("loss")[6]
