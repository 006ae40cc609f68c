"""How an attempt ends, and what the next one makes of it."""

import json
from typing import Any

import pytest
import torch

from mmrun.training.trainer import ResumableTrainer
from tests.integration.runs import TWO_PROCESSES, Runs


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int, error: BaseException) -> None:
    """Let the training break in the middle of ``step``."""
    train = ResumableTrainer.training_step

    def training_step(self: ResumableTrainer, *inputs: Any) -> torch.Tensor:
        if self.step == step - 1:
            raise error
        return train(self, *inputs)

    monkeypatch.setattr(ResumableTrainer, "training_step", training_step)


def ended(here: Runs, run_id: str, attempt: int) -> str | None:
    ended: str | None = json.loads(here.artifact(run_id, f"attempts/{attempt}.json"))["ended"]
    return ended


def test_a_failed_run_says_so_and_goes_on(here: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        fail_at(broken, 3, RuntimeError("out of memory"))
        said = here.train("out-1", "--save_steps", "2", "--save_strategy", "steps", steps="4")

    run_id = here.run_of("out-1")
    assert said.code == 1
    assert "error: RuntimeError: out of memory" in said.text
    assert "Traceback" not in said.text
    assert here.statuses()[run_id] == "FAILED"
    assert here.tags(run_id)["mmrun.status"] == "failed"
    assert "RuntimeError: out of memory" in here.artifact(run_id, "error.txt")
    assert ended(here, run_id, 1) == "failed"

    assert here.trained("out-1", steps="4") == run_id
    assert here.statuses()[run_id] == "FINISHED"
    assert here.steps_of(run_id) == [1, 2, 3, 4]


def test_a_second_ctrl_c_ends_at_once_and_the_run_goes_on(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        fail_at(broken, 2, KeyboardInterrupt())
        said = here.train("out-1", steps="3")

    run_id = here.run_of("out-1")
    assert said.code == 130
    assert here.statuses()[run_id] == "KILLED"
    assert ended(here, run_id, 1) == "stopped at once"

    assert here.trained("out-1", steps="3") == run_id
    assert here.statuses()[run_id] == "FINISHED"
    assert here.steps_of(run_id) == [1, 2, 3]


EARLY = (
    *("--eval_strategy", "steps", "--eval_steps", "1", "--learning_rate", "0"),
    *("--early_stopping_patience", "2"),
)


def test_what_stopped_early_is_done(here: Runs) -> None:
    run_id = here.trained("out-1", *EARLY, steps="9")
    assert here.steps_of(run_id) == [1, 2, 3]

    again = here.train("out-1", *EARLY, steps="9")

    assert again.code == 0
    assert "is already done at step 3" in again.text
    assert here.steps_of(run_id) == [1, 2, 3]


def test_what_stopped_early_goes_on_with_more_patience(here: Runs) -> None:
    run_id = here.trained("out-1", *EARLY, steps="9")

    here.trained("out-1", *EARLY[:-1], "4", steps="9")

    assert here.steps_of(run_id) == [1, 2, 3, 4, 5]
    assert here.statuses()[run_id] == "FINISHED"


def test_arguments_that_contradict_each_other_open_no_run(here: Runs) -> None:
    runs = here.statuses()

    said = here.train("out-1", "--load_best_model_at_end")

    assert said.code == 3
    assert "training.load_best_model_at_end needs evaluation" in said.text
    assert here.statuses() == runs
    assert not (here.folder / "out-1/run.json").exists()


def test_parameters_are_those_of_the_first_attempt(here: Runs) -> None:
    run_id = here.trained("out-1", "--label_smoothing_factor", "0.1")

    here.trained("out-1", "--label_smoothing_factor", "0.2", "--seed", "4", steps="3")

    record = json.loads(here.artifact(run_id, "attempts/2.json"))
    assert record["overrides"] == {
        "training.label_smoothing_factor": ["0.1", "0.2"],
        "training.max_steps": ["2", "3"],
        "training.seed": ["3", "4"],
    }
    changed = "training.label_smoothing_factor: 0.1 → 0.2"
    assert changed in here.tags(run_id)["mmrun.attempt.2"]
    assert here.steps_of(run_id) == [1, 2, 3]


def test_a_plan_says_that_there_are_more_processes_now(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.trained("out-1")
    for name, value in TWO_PROCESSES.items():
        monkeypatch.setenv(name, value)

    said = here.train("out-1", "--dry-run", steps="3")

    assert said.code == 0, said.text
    assert "changes     processes: 1 → 2" in said.text.splitlines()


def test_another_number_of_processes_is_recorded_as_a_change(here: Runs) -> None:
    run_id = here.trained("out-1")
    first = json.loads(here.artifact(run_id, "attempts/1.json"))
    assert first["processes"] == 1
    text = json.dumps({**first, "processes": 2})
    here.store.artifacts(run_id).write("attempts/1.json", text.encode())

    said = here.train("out-1", steps="3")

    assert "changed: processes: 2 → 1" in said.text
    second = json.loads(here.artifact(run_id, "attempts/2.json"))
    assert second["overrides"]["processes"] == ["2", "1"]
    assert second["processes"] == 1
    assert "processes: 2 → 1" in here.tags(run_id)["mmrun.attempt.2"]
