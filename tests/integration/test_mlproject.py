"""`mlflow run`: its run is the training's, or is marked as the launcher's."""

from dataclasses import dataclass

import pytest

from mmrun.tracking.store import Run
from tests.integration.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """The project's runs after one `mlflow run`."""

    run_id: str
    trainings: list[Run]
    losses: list[int]

    @property
    def training(self) -> Run:
        """Return the run of the output folder."""
        return next(run for run in self.trainings if run.run_id == self.run_id)


def _launch(project: Project, *options: str) -> Station:
    project.done("mlflow", "run", ".", "--env-manager", "local", *options)
    run_id = project.record.run_id
    return Station(run_id=run_id, trainings=project.trainings(), losses=project.steps(run_id))


@pytest.fixture(scope="module")
def stations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Station]:
    """Launch a project's entry points one after the other; the tests look at its stations."""
    project = Project(tmp_path_factory.mktemp("mlproject") / "project")
    project.done("mmrun", "demo", "data", "data")
    seen = {"main": _launch(project, "-P", "max_steps=10", "-P", "weight_decay=0.1")}
    arguments = ("-e", "train", "-P", "max_steps=20", "-P", "resume_from_checkpoint=latest")
    seen["resumed"] = _launch(project, *arguments)
    run_id = seen["main"].run_id
    seen["attached"] = _launch(project, "-e", "train", "--run-id", run_id, "-P", "max_steps=30")
    return seen


def test_a_new_training_uses_the_launcher_s_run(stations: dict[str, Station]) -> None:
    main = stations["main"]

    assert [run.run_id for run in main.trainings] == [main.run_id]
    assert main.training.status == "FINISHED"
    assert main.losses == [5, 10]


def test_a_parameter_that_is_not_declared_reaches_the_training(
    stations: dict[str, Station],
) -> None:
    assert stations["main"].training.params["cfg.training.weight_decay"] == "0.1"


def test_a_resume_marks_the_launcher_s_run(stations: dict[str, Station]) -> None:
    main, resumed = stations["main"], stations["resumed"]
    others = [run for run in resumed.trainings if run.run_id != resumed.run_id]

    assert resumed.run_id == main.run_id
    assert resumed.losses == [5, 10, 15, 20]
    assert [run.tags["mmrun.delegated_to"] for run in others] == [main.run_id]
    assert [run.tags["mmrun.role"] for run in others] == ["launcher"]


def test_a_run_can_be_attached(stations: dict[str, Station]) -> None:
    attached = stations["attached"]

    assert attached.run_id == stations["main"].run_id
    assert attached.training.status == "FINISHED"
    assert attached.losses == [5, 10, 15, 20, 25, 30]


def test_a_launcher_s_run_that_ended_is_removed_by_the_next_command(
    stations: dict[str, Station],
) -> None:
    assert len(stations["attached"].trainings) == 1
