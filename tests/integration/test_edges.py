"""Corners of a run's life, each of which went wrong once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrun.training.trainer import ResumableTrainer
from tests.integration.attempts import Lab
from tests.integration.runs import Runs
from tests.integration.test_ends import fail_at

MMRUN = Path(sys.executable).with_name("mmrun")
EACH_STEP = ("--save_strategy", "steps", "--save_steps", "1")
DROPPED = ("--dataloader_drop_last", "true", "--per_device_train_batch_size", "64")
"""A batch that is bigger than the training set, and dropped because it is not full."""


def test_the_journal_of_another_run_does_not_count(here: Runs) -> None:
    here.trained("out-1", steps="3")
    (here.folder / "out-1/run.json").unlink()
    shutil.rmtree(here.folder / "out-1/train")

    again = here.trained("out-1", steps="2")
    here.trained("out-1", steps="3")

    assert here.steps_of(again) == [1, 2, 3]


def test_a_shorter_length_takes_nothing_from_a_finished_run(here: Runs) -> None:
    here.trained("out-1", *EACH_STEP, steps="3")

    said = here.train("out-1", *EACH_STEP, "--resume_from_checkpoint", "2", steps="2")

    assert said.code == 0
    assert "already done at step 2" in said.text
    assert here.saved("out-1") == [1, 2, 3]


def test_a_step_at_which_it_stopped_is_saved_whatever_the_strategy(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = ResumableTrainer._evaluate

    def wish_to_stop(self: ResumableTrainer, *rest: Any, **options: Any) -> dict[str, float]:
        self.stop.reason = "a test"
        return evaluate(self, *rest, **options)

    monkeypatch.setattr(ResumableTrainer, "_evaluate", wish_to_stop)
    evaluation = ("--eval_strategy", "steps", "--eval_steps", "2")

    said = here.train("out-1", "--save_strategy", "epoch", *evaluation, steps="5")

    assert said.code == 75
    assert f"at step {here.saved('out-1')[-1]}, which is saved" in said.text


def test_a_run_whose_end_could_not_be_told_is_told_later(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = here.trained("out-1")
    here.store.set_status(run_id, "RUNNING")
    here.store.set_tags(run_id, {"mmrun.status": "running"})

    assert here.train("out-1").code == 0

    assert here.statuses()[run_id] == "FINISHED"
    assert here.tags(run_id)["mmrun.status"] == "finished"


def test_a_start_that_dies_before_the_folder_knows_its_run_leaves_one_run(here: Runs) -> None:
    words = ["train", "--config_path", "experiment.yaml", "--setup_path", "setup"]
    before = set(here.active())
    died = subprocess.run(
        [MMRUN, *words, "--output_dir", "out-1", "--max_steps", "2"],
        cwd=here.folder,
        env={**os.environ, "MMRUN_KILL_AT": "run.created"},
        capture_output=True,
        check=False,
    )
    assert died.returncode < 0

    run_id = here.trained("out-1")

    assert set(here.active()) - before == {run_id}


def test_evaluation_at_the_start_is_of_the_first_attempt_only(here: Runs) -> None:
    evaluation = ("--eval_strategy", "steps", "--eval_steps", "2", "--eval_on_start", "true")
    run_id = here.trained("out-1", *evaluation)

    here.trained("out-1", *evaluation, steps="4")

    assert here.steps_of(run_id, "eval_loss") == [0, 2, 4]


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_a_length_that_was_raised_goes_on_in_the_middle_of_the_epoch(
    tmp_path: Path, strategy: str
) -> None:
    lab = Lab(tmp_path)
    alone = lab.attempt(max_steps=8)

    first = lab.attempt(max_steps=4, save_strategy=strategy)
    second = lab.attempt(first.checkpoint, max_steps=8, save_strategy=strategy)

    assert first.trained + second.trained == alone.trained
    assert all(torch.equal(alone.weights[name], mine) for name, mine in second.weights.items())


def test_an_early_stop_that_could_not_be_told_stays_one(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = (
        *("--eval_strategy", "steps", "--eval_steps", "1", "--learning_rate", "0"),
        *("--early_stopping_patience", "2"),
        *EACH_STEP,
    )
    with monkeypatch.context() as broken:
        broken.setattr(ResumableTrainer, "_finalize_training", _die)
        assert here.train("out-1", *early, steps="9").code == 1

    run_id = here.trained("out-1", *early, steps="9")

    assert here.steps_of(run_id) == [1, 2, 3]


def _die(self: ResumableTrainer, *rest: Any) -> None:
    raise RuntimeError("died")


def test_a_failure_before_the_first_checkpoint_starts_the_same_run_again(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        fail_at(broken, 2, RuntimeError("out of memory"))
        here.train("out-1", steps="3")
    run_id = here.run_of("out-1")

    assert here.trained("out-1", steps="3") == run_id

    assert here.steps_of(run_id) == [1, 2, 3]


def test_noise_that_would_reach_no_embedding_is_refused(here: Runs) -> None:
    before = here.statuses()

    said = here.train("out-1", "--neftune_noise_alpha", "5")

    assert said.code == 3, said.text
    assert "training.neftune_noise_alpha: the noise would not reach" in said.text
    assert here.statuses() == before


@pytest.mark.parametrize("steps", ["-1", "2"])
def test_a_batch_that_is_never_full_is_refused_before_a_run_is_opened(
    here: Runs, steps: str
) -> None:
    before = here.statuses()

    said = here.train("out-1", *DROPPED, steps=steps)

    assert said.code == 3, said.text
    assert "64 samples make a batch, and the train split has 23" in said.text
    assert here.statuses() == before


def test_a_batch_that_is_never_full_is_refused_at_a_resume(here: Runs) -> None:
    here.trained("out-1")

    said = here.train("out-1", *DROPPED, steps="3")

    assert said.code == 3, said.text
    assert here.statuses()[here.run_of("out-1")] == "FINISHED"
