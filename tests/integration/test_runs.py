"""What ``mmrun runs`` shows of an experiment in which there is more than trainings."""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmrun.cli.main import run as mmrun
from mmrun.tracking.mlflow_store import MlflowStore

TRAINING = {
    "mmrun.format": "1",
    "mmrun.role": "training",
    "mmrun.status": "stopped by SIGTERM",
    "mmrun.attempts": "3",
    "mmrun.checkpoint.latest": "checkpoint-20",
    "mmrun.checkpoint.best": "checkpoint-10.a2",
}
LAUNCHER = {"mlflow.project.entryPoint": "train", "mmrun.role": "launcher"}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """An experiment with a run of every kind, and the command that lists it."""

    capsys: pytest.CaptureFixture[str]
    training: str

    def said(self, *words: str, code: int = 0) -> str:
        assert mmrun(["runs", *words]) == code
        return self.capsys.readouterr().out

    def names(self, *words: str) -> list[str]:
        tree = json.loads(self.said("--format", "json", *words))
        return [run["name"] for run in tree["runs"]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("listed")
    store = MlflowStore(f"sqlite:///{folder}/mlflow.db")
    run = store.create(experiment="mmrun", name="mine", tags=TRAINING)
    child = {"mmrun.role": "generation", "mlflow.parentRunId": run.run_id}
    for name, tags in {"scores": child, "launched": LAUNCHER, "theirs": {}}.items():
        made = store.create(experiment="mmrun", name=name, tags=tags)
        store.set_status(made.run_id, "FINISHED")
    store.set_status(run.run_id, "FAILED")  # as `mlflow run` does of a training that was stopped
    return folder, run.run_id


@pytest.fixture
def listing(
    project: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Listing]:
    folder, run_id = project
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Listing(capsys=capsys, training=run_id)
    root.handlers[:], root.level = handlers, level


def test_trainings_are_shown_and_with_all_what_belongs_to_them(listing: Listing) -> None:
    assert listing.names() == ["mine"]
    assert sorted(listing.names("--all")) == ["mine", "scores"]


def test_a_line_tells_what_the_run_is_and_what_mlflow_says(listing: Listing) -> None:
    title, head, line = listing.said().splitlines()

    assert title == "experiment mmrun: 1 run; 3 runs of other kinds not shown"
    assert head.split()[:3] == ["RUN", "NAME", "STATE"]
    assert line.split()[:2] == [listing.training, "mine"]
    assert "stopped by SIGTERM (MLflow: FAILED)  3         20      10.a2" in line


def test_json_has_what_the_table_has(listing: Listing) -> None:
    (run,) = json.loads(listing.said("--format", "json"))["runs"]

    assert (run["run_id"], run["attempts"], run["status"]) == (listing.training, 3, "FAILED")
    assert (run["latest"], run["best"]) == ("checkpoint-20", "checkpoint-10.a2")
    assert (run["held_by"], run["alive"]) == (None, None)
    assert run["started_ms"] <= run["ended_ms"]


@pytest.mark.parametrize("words", ["mmrun", "1"])
def test_an_experiment_is_known_by_its_name_and_by_its_id(listing: Listing, words: str) -> None:
    assert listing.names("--experiment", words) == ["mine"]


def test_an_experiment_without_trainings_says_so(listing: Listing) -> None:
    assert listing.said("--experiment", "Default") == "experiment Default: no training yet\n"


def test_the_experiment_of_the_environment_counts(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    assert listing.names() == []
    assert listing.names("--experiment", "mmrun") == ["mine"]


def test_a_variable_that_names_no_experiment_is_told(
    listing: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "99")

    assert mmrun(["runs"]) == 2
    assert (
        "error: MLFLOW_EXPERIMENT_ID: there is no experiment '99'"
        in listing.capsys.readouterr().err
    )


def test_the_params_yaml_of_the_folder_counts(listing: Listing, tmp_path: Path) -> None:
    uri = f"sqlite:///{Path.cwd()}/mlflow.db"
    file = tmp_path / "params.yaml"
    file.write_text(f"tracking:\n  uri: {uri}\n  experiment: none-such\n", encoding="utf-8")

    named = listing.said("--config_path", str(file))
    os.chdir(tmp_path)
    found = listing.said()

    assert named == found
    assert f"no run of 'none-such' is recorded at {uri}; there is 'mmrun'" in found
