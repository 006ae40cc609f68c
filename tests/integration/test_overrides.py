"""One training in several attempts: exact where nothing changed, and every change is real."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrun.modalities.base import Array, Signal
from mmrun.modalities.features import FeaturesModality
from mmrun.training.position import read_position
from tests.integration.attempts import ROWS, Attempt, Lab

EVERY_SAMPLE = list(range(ROWS["train"]))
STEPS_OF_AN_EPOCH = 6
FOUR_STEPS = 16
"""Samples of four steps with a batch of four."""


@pytest.fixture(scope="module")
def stopped(lab: Lab) -> Attempt:
    """The first attempt of a training of nine steps: four of them, of six in the first epoch."""
    return lab.attempt(stop_at=4)


def assert_same_weights(one: Attempt, other: Attempt) -> None:
    theirs = other.weights
    assert all(torch.equal(mine, theirs[name]) for name, mine in one.weights.items())


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({}, id="as usual"),
        pytest.param({"logging_steps": 5}, id="stopped between two log lines"),
        pytest.param({"gradient_accumulation_steps": 2}, id="accumulation"),
        pytest.param({"dataloader_drop_last": True}, id="incomplete batches dropped"),
        pytest.param({"dataloader_num_workers": 1}, id="loader in another process"),
        pytest.param({"train_sampling_strategy": "group_by_length"}, id="grouped by length"),
        pytest.param({"train_sampling_strategy": "sequential"}, id="in the stored order"),
        pytest.param({"label_smoothing_factor": 0.1}, id="label smoothing"),
        pytest.param({"lr_scheduler_type": "cosine", "warmup_steps": 2}, id="schedule"),
        pytest.param({"optim": "adafactor"}, id="adafactor"),
        pytest.param({"eval_strategy": "epoch", "logging_strategy": "epoch"}, id="by epochs"),
        pytest.param({"max_steps": -1, "num_train_epochs": 1.5}, id="length in epochs"),
    ],
)
def test_three_attempts_are_one_training(lab: Lab, arguments: dict[str, Any]) -> None:
    alone = lab.attempt(**arguments)
    attempts = [lab.attempt(stop_at=4, **arguments)]
    attempts.append(lab.attempt(attempts[-1].checkpoint, stop_at=6, **arguments))
    attempts.append(lab.attempt(attempts[-1].checkpoint, **arguments))

    untimed = {
        (key, step): value
        for key, step, value in alone.logged
        if not key.endswith(("_runtime", "_per_second"))
    }
    together = {
        (key, step): value
        for attempt in attempts
        for key, step, value in attempt.logged
        if not key.endswith(("_runtime", "_per_second"))
    }
    assert together == untimed
    assert [number for attempt in attempts for number in attempt.trained] == alone.trained
    assert_same_weights(attempts[-1], alone)


AUGMENTED = {"frame_dropping": 0.3, "noise": 0.1}


IN_WORKERS = [
    pytest.param({"dataloader_num_workers": 1}, id="one worker"),
    pytest.param({"dataloader_num_workers": 4}, id="four workers"),
    pytest.param(
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
        id="workers that stay",
    ),
]


@pytest.fixture(scope="module")
def augmented(lab: Lab) -> Attempt:
    """A training of augmented samples that was left alone, in more than three epochs."""
    return lab.attempt(modality=AUGMENTED, max_steps=20)


@pytest.mark.parametrize("workers", IN_WORKERS)
def test_a_training_is_the_same_with_any_loader(
    lab: Lab, augmented: Attempt, workers: dict[str, Any]
) -> None:
    plain = lab.attempt(max_steps=20)

    other = lab.attempt(modality=AUGMENTED, max_steps=20, **workers)

    assert other.values("loss") == augmented.values("loss") != plain.values("loss")
    assert_same_weights(other, augmented)


@pytest.mark.parametrize("stop_at", [4, STEPS_OF_AN_EPOCH, 2 * STEPS_OF_AN_EPOCH, 15])
@pytest.mark.parametrize("workers", [pytest.param({}, id="no worker"), *IN_WORKERS[2:]])
def test_an_augmented_training_in_two_attempts_is_one(
    lab: Lab, augmented: Attempt, workers: dict[str, Any], stop_at: int
) -> None:
    options: dict[str, Any] = {"modality": AUGMENTED, "max_steps": 20, **workers}
    first = lab.attempt(stop_at=stop_at, **options)

    second = lab.attempt(first.checkpoint, **options)

    losses = {**first.values("loss"), **second.values("loss")}
    assert losses == augmented.values("loss")
    assert_same_weights(second, augmented)


def test_what_was_trained_on_is_not_read_again(
    lab: Lab, stopped: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    load = FeaturesModality.load

    def noted(modality: FeaturesModality, signal: Signal) -> Array:
        read.append(signal.path)
        return load(modality, signal)

    monkeypatch.setattr(FeaturesModality, "load", noted)
    resumed = lab.attempt(stopped.checkpoint)

    once = list(dict.fromkeys(resumed.trained))  # the next epochs find it in memory
    assert [int(path.stem.removeprefix("train-")) for path in read][: len(once)] == once
    assert len(read) <= len(once) + 2 * 4  # the loader is two batches ahead


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"learning_rate": 0.003}, id="rate"),
        pytest.param({"lr_scheduler_type": "linear"}, id="schedule"),
        pytest.param({"lr_scheduler_type": "linear", "max_steps": 12}, id="schedule and length"),
        pytest.param({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 8}, id="warmup"),
        pytest.param({"lr_scheduler_type": "cosine", "learning_rate": 0.1}, id="rate and schedule"),
    ],
)
def test_the_rate_is_that_of_a_fresh_run_from_the_first_resumed_step(
    lab: Lab, stopped: Attempt, changed: dict[str, Any]
) -> None:
    fresh = lab.attempt(**changed).values("learning_rate")

    resumed = lab.attempt(stopped.checkpoint, **changed).values("learning_rate")

    assert resumed == {step: rate for step, rate in fresh.items() if step > 4}
    assert resumed


def test_the_optimizer_has_the_hyperparameters_of_today(lab: Lab, stopped: Attempt) -> None:
    resumed = lab.attempt(
        stopped.checkpoint, weight_decay=0.3, adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-6
    )

    groups = resumed.trainer.optimizer.param_groups
    assert sorted({group["weight_decay"] for group in groups}) == [0.0, 0.3]
    assert all(tuple(group["betas"]) == (0.8, 0.9) for group in groups)
    assert all(group["eps"] == 1e-6 for group in groups)


def test_a_changed_optimizer_starts_fresh_and_says_so(
    lab: Lab, stopped: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        resumed = lab.attempt(stopped.checkpoint, optim="adafactor")

    assert resumed.step == 9
    assert "optimizer: AdamW → Adafactor; its state starts fresh at step 4" in caplog.text


def test_changed_label_smoothing_is_in_the_first_resumed_loss(lab: Lab, stopped: Attempt) -> None:
    before = lab.attempt(stopped.checkpoint).values("loss")
    smoothed = lab.attempt(stopped.checkpoint, label_smoothing_factor=0.2).values("loss")

    assert smoothed[5] != before[5]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"per_device_train_batch_size": 2}, id="half"),
        pytest.param({"per_device_train_batch_size": 5}, id="odd"),
        pytest.param({"per_device_train_batch_size": 99}, id="more than is left"),
        pytest.param({"gradient_accumulation_steps": 3}, id="accumulation"),
        pytest.param(
            {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
            id="both",
        ),
        pytest.param({"dataloader_num_workers": 1, "per_device_train_batch_size": 3}, id="loader"),
    ],
)
@pytest.mark.parametrize("length", [{"max_steps": 30}, {"max_steps": -1, "num_train_epochs": 2}])
def test_a_changed_batch_size_neither_repeats_nor_skips_a_sample(
    lab: Lab, stopped: Attempt, changed: dict[str, Any], length: dict[str, Any]
) -> None:
    resumed = lab.attempt(stopped.checkpoint, **changed, **length)

    trained = stopped.trained + resumed.trained
    epochs = [trained[i : i + len(EVERY_SAMPLE)] for i in range(0, len(trained), len(EVERY_SAMPLE))]
    assert len(epochs) >= 2
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch)
    assert sorted(epochs[0]) == sorted(epochs[1]) == EVERY_SAMPLE
    if "num_train_epochs" in length:
        assert len(trained) == 2 * len(EVERY_SAMPLE)


def test_a_changed_batch_size_drops_only_an_incomplete_last_batch(
    lab: Lab, stopped: Attempt
) -> None:
    resumed = lab.attempt(
        stopped.checkpoint,
        per_device_train_batch_size=3,
        dataloader_drop_last=True,
        max_steps=-1,
        num_train_epochs=1,
    )

    trained = stopped.trained + resumed.trained
    assert len(trained) == FOUR_STEPS + 6
    assert len(set(trained)) == len(trained)


def test_data_that_is_not_skipped_begins_the_epoch_again(lab: Lab, stopped: Attempt) -> None:
    resumed = lab.attempt(stopped.checkpoint, ignore_data_skip=True)

    assert resumed.trained[:FOUR_STEPS] == stopped.trained


def test_changed_intervals_are_in_force(lab: Lab, stopped: Attempt) -> None:
    resumed = lab.attempt(
        stopped.checkpoint,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="steps",
        save_steps=7,
    )

    assert list(resumed.values("loss")) == [6, 8]
    assert list(resumed.values("eval_loss")) == [6, 9]
    assert sorted(resumed.saved) == [7, 9]


def test_a_length_that_is_already_passed_does_no_step(lab: Lab, stopped: Attempt) -> None:
    resumed = lab.attempt(stopped.checkpoint, max_steps=3)

    assert resumed.step == 4
    assert resumed.trained == []


def test_the_patience_of_early_stopping_goes_on(lab: Lab) -> None:
    waiting: dict[str, Any] = {
        "learning_rate": 0.0,  # nothing gets better
        "eval_strategy": "steps",
        "eval_steps": 1,
        "early_stopping_patience": 4,
    }
    alone = lab.attempt(**waiting)

    first = lab.attempt(stop_at=3, **waiting)
    second = lab.attempt(first.checkpoint, **waiting)

    assert alone.step == second.step == 5
    for ended in (alone, second):
        position = read_position(ended.checkpoint)
        assert position is not None
        assert position.stopped_early


def test_a_changed_patience_counts_with_what_was_waited(lab: Lab) -> None:
    waiting: dict[str, Any] = {"learning_rate": 0.0, "eval_strategy": "steps", "eval_steps": 1}
    first = lab.attempt(stop_at=3, early_stopping_patience=4, **waiting)

    second = lab.attempt(first.checkpoint, early_stopping_patience=6, **waiting)

    assert second.step == 7


def test_the_best_so_far_goes_on(lab: Lab) -> None:
    evaluated: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
    }
    first = lab.attempt(stop_at=4, **evaluated)

    second = lab.attempt(first.checkpoint, **evaluated, learning_rate=10.0)

    # The evaluation after the step that was the last one is the next attempt's.
    losses = {**first.values("eval_loss"), 4: second.values("eval_loss")[4]}
    assert second.trainer.state.best_metric == min(losses.values())
    assert second.trainer.state.best_global_step == min(losses, key=lambda step: losses[step])


def test_the_best_by_another_metric_is_found_in_what_was_evaluated(lab: Lab) -> None:
    evaluated: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "predict_with_generate": True,
        "metric_name": "chrf",
    }
    first = lab.attempt(stop_at=6, **evaluated)

    second = lab.attempt(first.checkpoint, **evaluated, metric_for_best_model="chrf")

    scores = {**first.values("eval_chrf"), **second.values("eval_chrf")}
    assert second.trainer.state.best_metric == max(scores.values())


def test_evaluating_does_not_move_the_training(lab: Lab) -> None:
    seldom = lab.attempt()
    often = lab.attempt(
        eval_strategy="steps", eval_steps=1, predict_with_generate=True, metric_name="chrf"
    )

    assert often.values("loss") == seldom.values("loss")
    assert_same_weights(often, seldom)
