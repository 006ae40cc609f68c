"""What ``--fork`` makes of output folders, references and runs, in this process."""

import json
from typing import NoReturn

import pytest

from mmrun.workflows.recipe import Recipe
from tests.integration.runs import Runs


def test_a_fork_of_a_fork_has_the_history_of_both(here: Runs) -> None:
    first = here.trained("out-1")
    reference = ("--fork", "--resume_from_checkpoint")

    second = here.trained("out-2", *reference, f"{first}@2", steps="3")
    third = here.trained("out-3", *reference, f"{second}@latest", steps="4")

    assert len({first, second, third}) == 3
    assert here.steps_of(third) == [1, 2, 3, 4]
    assert here.steps_of(first) == [1, 2]
    assert here.tags(third)["mmrun.forked_from"] == f"{second}@3"
    assert here.saved("out-3") == [3, 4]


def test_the_run_that_the_environment_names_is_forked(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.trained("out-1")
    monkeypatch.setenv("MLFLOW_RUN_ID", first)

    second = here.trained("out-2", "--fork", steps="3")

    assert here.tags(second)["mmrun.forked_from"] == f"{first}@2"
    assert here.steps_of(first) == [1, 2]


def test_the_same_command_goes_on_with_its_fork(here: Runs) -> None:
    first = here.trained("out-1")
    words = ("--fork", "--resume_from_checkpoint", f"{first}@latest")
    second = here.trained("out-2", *words, steps="3")

    assert here.trained("out-2", *words, steps="4") == second
    assert here.steps_of(second) == [1, 2, 3, 4]


@pytest.mark.parametrize("reference", ["{run}@2", "{run}@latest", "out-1/train/checkpoint-2"])
def test_a_fork_that_died_before_its_first_attempt_still_says_where_it_began(
    here: Runs, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    first = here.trained("out-1")
    words = ("--fork", "--resume_from_checkpoint", reference.format(run=first))
    with monkeypatch.context() as broken:
        broken.setattr(Recipe, "trainer", break_down)
        assert here.train("out-2", *words, steps="3").code == 1
    assert here.saved("out-2") == [2]

    planned = here.train("out-2", *words, "--dry-run", steps="3")
    said = here.train("out-2", *words, steps="3")

    second = here.run_of("out-2")
    assert f"run         {second}, a fork of {first}@2" in planned.text.splitlines()
    assert f"run {second}, a fork of {first}@2: attempt 1" in said.text
    record = json.loads(here.artifact(second, "attempts/1.json"))
    assert record["started_from"] == f"{first}@2.a1"


def break_down(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("out of memory")


def test_the_folder_of_another_run_is_freed_on_request_only(here: Runs) -> None:
    first, second = here.trained("out-1"), here.trained("out-2")
    words = ("--fork", "--resume_from_checkpoint", f"{first}@2")

    said = here.train("out-2", *words, steps="3")

    assert said.code == 2
    assert f"out-2 belongs to run {second}" in said.text
    third = here.trained("out-2", *words, "--overwrite_output_dir", "true", steps="3")
    assert third not in {first, second}
    assert here.steps_of(third) == [1, 2, 3]
    assert here.statuses()[second] == "FINISHED"


@pytest.mark.parametrize("overwrite", ["true", "false"])
@pytest.mark.parametrize("reference", ["{run}@2", "latest", "out-1/train/checkpoint-2"])
def test_a_fork_into_the_folder_of_its_source_is_refused_with_words_that_work(
    here: Runs, reference: str, overwrite: str
) -> None:
    first = here.trained("out-1")
    words = ("--fork", "--resume_from_checkpoint", reference.format(run=first))

    said = here.train("out-1", *words, "--overwrite_output_dir", overwrite)

    assert said.code == 2
    assert f"out-1 belongs to run {first}" in said.text
    hint = said.text.rpartition("  try: ")[2]
    assert "--output_dir NEW " in hint
    here.trained("out-2", *hint.replace("--output_dir NEW ", "").split(), steps="3")


def test_the_hint_of_two_runs_that_are_meant_works(here: Runs) -> None:
    first = here.trained("out-1")
    here.trained("out-2")
    words = ("--resume_from_checkpoint", f"{first}@2")

    said = here.train("out-2", *words)

    assert said.code == 2
    assert "with --fork a new one begins" in said.text
    assert here.trained("out-3", *words, "--fork", steps="3") not in {first, here.run_of("out-2")}


def test_a_fork_from_nothing_is_refused(here: Runs) -> None:
    said = here.train("out-1", "--fork")

    assert said.code == 2
    assert "--fork needs a checkpoint of a run to begin with" in said.text
    assert not (here.folder / "out-1").exists()


def test_a_checkpoint_that_is_only_on_the_disk_of_its_source(here: Runs) -> None:
    first = here.trained("out-1", "--set", "tracking.log_checkpoints=false")
    words = ("--fork", "--resume_from_checkpoint")

    said = here.train("out-2", *words, f"{first}@latest")

    assert said.code == 5
    assert f"the store has no checkpoint of run {first}" in said.text
    second = here.trained("out-2", *words, "out-1/train/checkpoint-2", steps="3")
    assert here.steps_of(second) == [1, 2, 3]
