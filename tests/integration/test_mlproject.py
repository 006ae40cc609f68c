"""`mlflow run`: its run is the training's, or is marked as the launcher's."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from mmrun.tracking.store import Run
from tests.integration.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """The project's runs after one `mlflow run`."""

    said: str
    training: Run
    """The run of the output folder."""
    others: list[Run]
    losses: list[int]


def _station(project: Project, said: str) -> Station:
    training = project.training
    return Station(
        said=said,
        training=training,
        others=[run for run in project.runs() if run.run_id != training.run_id],
        losses=project.steps(training.run_id),
    )


@pytest.fixture(scope="module")
def stations(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Station]:
    """Launch a project's entry points one after the other; the tests look at its stations."""
    project = Project(tmp_path_factory.mktemp("mlproject") / "project")
    project.done("mmrun", "demo", "data", "data")
    launch = ("mlflow", "run", ".", "--env-manager", "local")

    seen = {}
    said = project.done(*launch, "-P", "max_steps=10", "-P", "weight_decay=0.1")
    seen["main"] = _station(project, said)
    arguments = ("-e", "train", "-P", "resume_from_checkpoint=latest")
    said = project.done(*launch, *arguments, "-P", "max_steps=20")
    seen["resumed"] = _station(project, said)
    run_id = project.record.run_id
    said = project.done(*launch, "-e", "train", "--run-id", run_id, "-P", "max_steps=30")
    seen["attached"] = _station(project, said)
    refused = ("-e", "train", "-P", "resume_from_checkpoint=99")
    seen["refused"] = _station(project, project.run(*launch, *refused).stdout)
    words = ("-P", "fork=true", "-P", f"resume_from_checkpoint={run_id}@latest")
    said = project.done(
        *launch, "-e", "train", *words, "-P", "output_dir=outputs/fork", "-P", "max_steps=35"
    )
    seen["forked"] = _station(project, said)
    said = project.interrupt(*launch, *arguments, "-P", "max_steps=100000", at="step 40:")
    seen["stopped"] = _station(project, said)
    said = project.kill_all(*launch, *arguments, "-P", "max_steps=100000", at="step ")
    seen["killed"] = _station(project, said)
    said = project.done("mmrun", "reap", "--experiment", "Default")
    seen["reaped"] = _station(project, said)
    seen["listed"] = _station(project, project.done("mmrun", "runs"))
    return seen


def test_a_new_training_uses_the_launcher_s_run(stations: Mapping[str, Station]) -> None:
    main = stations["main"]

    assert main.others == []
    assert main.training.status == "FINISHED"
    assert main.losses == [5, 10]


def test_the_entry_point_without_a_name_goes_on_to_the_scores(
    stations: Mapping[str, Station],
) -> None:
    assert "checkpoint-10 (best): exact_match" in stations["main"].said


def test_a_parameter_that_is_not_declared_reaches_the_training(
    stations: Mapping[str, Station],
) -> None:
    assert stations["main"].training.params["cfg.training.weight_decay"] == "0.1"


def test_a_resume_marks_the_launcher_s_run(stations: Mapping[str, Station]) -> None:
    main, resumed = stations["main"], stations["resumed"]

    assert resumed.training.run_id == main.training.run_id
    assert resumed.losses == [5, 10, 15, 20]
    assert [run.tags["mmrun.delegated_to"] for run in resumed.others] == [main.training.run_id]
    assert [run.tags["mmrun.role"] for run in resumed.others] == ["launcher"]


def test_a_run_can_be_attached(stations: Mapping[str, Station]) -> None:
    attached = stations["attached"]

    assert attached.training.run_id == stations["main"].training.run_id
    assert attached.training.status == "FINISHED"
    assert attached.losses == [5, 10, 15, 20, 25, 30]


def test_a_launcher_s_run_that_ended_is_removed_by_the_next_command(
    stations: Mapping[str, Station],
) -> None:
    assert stations["attached"].others == []


def test_a_resume_that_is_refused_marks_the_launcher_s_run(
    stations: Mapping[str, Station],
) -> None:
    refused = stations["refused"]

    assert "99" in refused.said
    assert [run.status for run in refused.others] == ["FAILED"]
    assert [run.tags["mmrun.role"] for run in refused.others] == ["launcher"]


def test_a_fork_uses_the_launcher_s_run(stations: Mapping[str, Station]) -> None:
    (fork,) = stations["forked"].others

    assert fork.tags["mmrun.forked_from"] == f"{stations['main'].training.run_id}@30"
    assert (fork.tags["mmrun.role"], fork.status) == ("training", "FINISHED")


def test_a_training_does_not_outlive_its_launcher(stations: Mapping[str, Station]) -> None:
    stopped = stations["stopped"]

    assert "stopped by the end of its launcher at step" in stopped.said
    assert stopped.training.run_id == stations["main"].training.run_id
    assert stopped.training.status == "KILLED"
    launched = [run for run in stopped.others if run.tags["mmrun.role"] == "launcher"]
    assert [run.status for run in launched] == ["KILLED"]


def test_what_a_killed_launcher_left_is_removed_and_its_training_closed(
    stations: Mapping[str, Station],
) -> None:
    killed, reaped = stations["killed"], stations["reaped"]

    left = [run for run in killed.others if run.tags["mmrun.role"] == "launcher"]
    assert [run.status for run in left] == ["RUNNING"]
    assert killed.training.status == "RUNNING"
    assert f"run {left[0].run_id} ({left[0].name}), which 'mlflow run' made: removed" in reaped.said
    assert [run.tags["mmrun.role"] for run in reaped.others] == ["training"]  # the fork
    assert (reaped.training.status, reaped.training.tags["mmrun.status"]) == ("KILLED", "killed")


def test_where_mlflow_run_put_its_runs_is_told(stations: Mapping[str, Station]) -> None:
    assert "there is 'Default': choose it with --experiment" in stations["listed"].said
