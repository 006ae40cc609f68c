"""Output folders and the runs they belong to, through the command line in this process."""

import pytest

from tests.integration.runs import Runs


def test_another_run_goes_on_in_the_place_of_the_folders_own(here: Runs) -> None:
    first, second = here.trained("out-1"), here.trained("out-2", steps="4")

    gone_on = here.trained(
        "out-2",
        "--overwrite_output_dir",
        "true",
        "--resume_from_checkpoint",
        f"{first}@latest",
        steps="3",
    )

    assert gone_on == first
    assert here.saved("out-2") == [2, 3]
    assert here.steps_of(first) == [1, 2, 3]
    assert here.steps_of(second) == [1, 2, 3, 4]


def test_without_overwriting_another_run_is_refused(here: Runs) -> None:
    first, second = here.trained("out-1"), here.trained("out-2")

    said = here.train("out-2", "--resume_from_checkpoint", f"{first}@latest")

    assert said.code == 2
    assert first in said.text
    assert second in said.text
    assert here.run_of("out-2") == second


@pytest.mark.parametrize("reference", ["{run}", "latest", "2"])
def test_the_run_that_is_to_be_overwritten_cannot_be_resumed(here: Runs, reference: str) -> None:
    asked = reference.format(run=here.trained("out-1"))

    said = here.train("out-1", "--overwrite_output_dir", "true", "--resume_from_checkpoint", asked)

    assert said.code == 2
    assert "--overwrite_output_dir true removes" in said.text
    assert here.saved("out-1") == [2]


def test_overwriting_starts_another_run(here: Runs) -> None:
    first = here.trained("out-1", steps="3")

    second = here.trained("out-1", "--overwrite_output_dir")

    assert second != first
    assert here.saved("out-1") == [2]
    assert here.statuses()[first] == "FINISHED"


def test_what_was_not_sent_is_not_overwritten(here: Runs) -> None:
    first = here.trained("out-1")
    (here.folder / "out-1/journal/attempt-1.sent").unlink()
    runs = here.statuses()

    said = here.train("out-1", "--overwrite_output_dir", "true")

    assert said.code == 6
    assert "were not sent" in said.text
    assert here.run_of("out-1") == first
    assert here.saved("out-1") == [2]
    assert here.statuses() == runs

    here.trained("out-1")  # as the hint says: this sends them
    assert here.trained("out-1", "--overwrite_output_dir", "true") != first
    assert here.steps_of(first) == [1, 2]


@pytest.mark.parametrize("asked", [("--overwrite_output_dir", "false"), ()])
def test_not_overwriting_goes_on(here: Runs, asked: tuple[str, ...]) -> None:
    first = here.trained("out-1")

    assert here.trained("out-1", *asked, steps="3") == first
    assert here.steps_of(first) == [1, 2, 3]


def test_without_its_run_file_a_folder_is_known_by_its_checkpoints(here: Runs) -> None:
    first = here.trained("out-1")
    (here.folder / "out-1/run.json").unlink()

    assert here.trained("out-1", steps="3") == first
    assert here.steps_of(first) == [1, 2, 3]


def test_a_damaged_run_file_is_refused_and_its_remedy_works(here: Runs) -> None:
    first = here.trained("out-1")
    run_file = here.folder / "out-1/run.json"
    run_file.write_text("{", encoding="utf-8")

    said = here.train("out-1", steps="3")

    assert said.code == 2
    assert "run.json is damaged" in said.text
    run_file.unlink()
    assert here.trained("out-1", steps="3") == first


def test_the_run_that_the_environment_names_goes_on(
    here: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.trained("out-1")
    monkeypatch.setenv("MLFLOW_RUN_ID", first)

    assert here.trained("out-2", steps="3") == first
    assert here.steps_of(first) == [1, 2, 3]


def test_two_runs_of_one_project_keep_to_themselves(here: Runs) -> None:
    first, second = here.trained("out-1"), here.trained("out-2")

    assert first != second
    assert here.steps_of(first) == here.steps_of(second) == [1, 2]


def test_a_dry_run_changes_nothing(here: Runs) -> None:
    first = here.trained("out-1")
    before = sorted((here.folder / "out-1").rglob("*"))

    said = here.train("out-1", "--dry-run", "--learning_rate", "0.5", steps="4")

    assert said.code == 0
    assert f"run         {first}" in said.text
    assert "checkpoint  checkpoint-2, local" in said.text
    assert "training.learning_rate: 0.01 → 0.5" in said.text
    assert sorted((here.folder / "out-1").rglob("*")) == before


def test_a_dry_run_of_a_new_run_makes_nothing(here: Runs) -> None:
    runs = here.statuses()

    said = here.train("out-new", "--dry-run")

    assert said.code == 0
    assert "run         a new one" in said.text
    assert not (here.folder / "out-new").exists()
    assert here.statuses() == runs
