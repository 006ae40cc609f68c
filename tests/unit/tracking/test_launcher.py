"""The run that `mlflow run` makes: taken out of the environment, marked, closed, removed."""

import json
from dataclasses import asdict, replace

import pytest

from mmrun.tracking import launcher
from mmrun.tracking.process import this_process
from mmrun.tracking.store import Run
from tests.fakes import MemoryStore
from tests.unit.tracking.points import point

PROJECT = {"mlflow.project.entryPoint": "train"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def made(store: MemoryStore, tags: dict[str, str], *, experiment_id: str = "0") -> Run:
    return store.create(experiment="", experiment_id=experiment_id, name=None, tags=tags)


def test_the_run_of_the_environment_is_taken_out_of_it(store: MemoryStore) -> None:
    run = made(store, PROJECT)
    environment = {"MLFLOW_RUN_ID": run.run_id, "HOME": "/"}

    assert launcher.environment_run(store, environment) == run
    assert environment == {"HOME": "/"}


def test_a_marked_run_is_removed_once_it_has_ended(store: MemoryStore) -> None:
    run = made(store, PROJECT)
    launcher.mark(store, run, delegated_to="f" * 32)

    launcher.sweep(store, "7")
    assert store.deleted == set()

    store.set_status(run.run_id, "FAILED")
    launcher.sweep(store, "7")
    assert store.deleted == {run.run_id}


@pytest.mark.parametrize(
    ("recorded", "removed"),
    [
        pytest.param("a metric", False, id="a step before or after it logged a metric"),
        pytest.param("a file", False, id="or a file"),
        pytest.param("a note", False, id="or somebody wrote about it"),
        pytest.param("setup", True, id="what setup stored, the other run has too"),
    ],
)
def test_only_an_empty_run_of_a_launcher_is_removed(
    store: MemoryStore, recorded: str, *, removed: bool
) -> None:
    run = made(store, PROJECT | ({"mlflow.note.content": "mine"} if recorded == "a note" else {}))
    if recorded == "a metric":
        store.log_points(run.run_id, [point(1.0, step=1)])
    elif recorded == "a file":
        store.artifacts(run.run_id).write("report.txt", b"")
    elif recorded == "setup":
        store.artifacts(run.run_id).write("setup/model/config.json", b"{}")
    launcher.mark(store, store.read(run.run_id), delegated_to="f" * 32)
    store.set_status(run.run_id, "FINISHED")

    launcher.sweep(store, "7")

    assert store.deleted == ({run.run_id} if removed else set())
    assert recorded != "a note" or store.read(run.run_id).tags["mlflow.note.content"] == "mine"


def test_a_marked_run_whose_mlflow_run_was_killed_is_removed(store: MemoryStore) -> None:
    run = made(store, PROJECT)
    launcher.mark(store, run, delegated_to="f" * 32)
    gone = replace(this_process(), started="1")
    for process, removed in ((this_process(), set()), (gone, {run.run_id})):
        store.set_tags(run.run_id, {"mmrun.launcher": json.dumps(asdict(process))})

        launcher.sweep(store, "7")

        assert store.deleted == removed


def test_of_a_marked_run_on_another_machine_it_is_not_known_whether_it_is_over(
    store: MemoryStore,
) -> None:
    run = made(store, PROJECT)
    launcher.mark(store, run, delegated_to="f" * 32)
    unmarked = launcher.is_over(store.read(run.run_id))
    elsewhere = replace(this_process(), boot="another boot")
    store.set_tags(run.run_id, {"mmrun.launcher": json.dumps(asdict(elsewhere))})

    assert unmarked is None
    assert launcher.is_over(store.read(run.run_id)) is None


def test_a_run_of_somebody_else_is_neither_marked_nor_removed(store: MemoryStore) -> None:
    theirs = made(store, {launcher.ROLE_TAG: launcher.ROLE}, experiment_id="7")
    store.set_status(theirs.run_id, "FINISHED")

    launcher.mark(store, theirs, delegated_to="f" * 32)
    launcher.close(store, theirs)
    launcher.sweep(store, "7")

    assert store.deleted == set()
    assert store.read(theirs.run_id).status == "FINISHED"
    assert "mmrun.delegated_to" not in store.read(theirs.run_id).tags


def test_a_run_whose_launcher_died_is_closed(store: MemoryStore) -> None:
    run = made(store, PROJECT)

    launcher.close(store, run)

    assert store.read(run.run_id).status == "KILLED"


def test_a_store_that_is_away_stops_nobody(store: MemoryStore) -> None:
    run = made(store, PROJECT)
    store.away = True

    launcher.close(store, run)
    launcher.sweep(store, "0")
