"""``mmrun runs`` tells what became of trainings, and ``mmrun reap`` says it to MLflow."""

import json
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.recovery.project import MMRUN, Project, RunRow, assert_one_run_like, outside


def listed(project: Project, *options: str) -> dict[str, dict[str, object]]:
    done = project.mmrun("runs", "--format", "json", *options)
    assert done.code == 0, done.said
    return {run["run_id"]: run for run in json.loads(done.said)["runs"]}


def row(project: Project, run_id: str) -> RunRow:
    return next(run for run in project.runs() if run.run_id == run_id)


@contextmanager
def living(project: Project) -> Iterator[str]:
    """Train beside in a folder of its own, held still while the block lasts; yield its run."""
    known = {run.run_id for run in project.runs()}
    with subprocess.Popen(
        [MMRUN, "train", "--config_path", "experiment.yaml", "--output_dir", "beside"],
        cwd=project.folder,
        env=outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            for line in process.stdout or ():
                if line.startswith("step 5:"):
                    break
            process.send_signal(signal.SIGSTOP)
            (mine,) = {run.run_id for run in project.runs()} - known
            yield mine
        finally:
            process.kill()


def test_a_newcomer_is_told_that_there_is_nothing_yet(project: Project) -> None:
    for command in ("runs", "reap"):
        done = project.mmrun(command)

        assert done.code == 0
        assert "no run has been recorded yet" in done.said
    assert not (project.folder / "mlflow.db").exists()


def test_a_killed_training_is_dead_until_it_is_reaped_and_one_beside_goes_on(
    killed: Project,
) -> None:
    with living(killed) as beside:
        mine = next(run.run_id for run in killed.runs() if run.run_id != beside)
        before = row(killed, beside)
        states = {run_id: run["state"] for run_id, run in listed(killed).items()}
        plan = killed.mmrun("reap", "--dry-run")
        planned = row(killed, mine)
        done = killed.mmrun("reap")
        after = listed(killed)

    assert states == {mine: "dead", beside: "running"}
    assert (plan.code, planned.status) == (0, "RUNNING")
    assert f"run {mine}" in plan.said
    assert done.code == 0, done.said
    assert "killed at step 18" in done.said
    assert f"{beside} ({before.tags['mlflow.runName']}): left alone, process" in done.said
    assert (after[mine]["state"], after[beside]["state"]) == ("killed", "running")
    assert row(killed, mine).status == "KILLED"
    assert row(killed, mine).tags["mmrun.status"] == "killed"
    assert row(killed, mine).tags["mmrun.attempt.1"] == "steps 0 to 18, killed"
    assert row(killed, beside).status == before.status == "RUNNING"
    assert row(killed, beside).params == before.params


def test_a_reaped_run_goes_on_as_if_nobody_had_reaped_it(killed: Project, alone: Project) -> None:
    reaped = killed.mmrun("reap")
    said = (killed.run.tags["mmrun.attempt.1"], killed.attempt(1)["ended"])

    killed.train_to_the_end()

    assert reaped.code == 0, reaped.said
    assert said == ("steps 0 to 18, killed", "killed")
    assert killed.run.tags["mmrun.attempt.1"] == "steps 0 to 18, killed"
    assert_one_run_like(killed, alone)


def test_reaping_where_the_folder_is_not_loses_nothing_of_it(
    killed: Project, alone: Project
) -> None:
    killed.train_until("step@17", "--resume_from_checkpoint", "12")
    (killed.folder / "out").rename(killed.folder / "away")
    reaped = killed.mmrun("reap")
    known = killed.attempt(2)["confirmed"]
    (killed.folder / "away").rename(killed.folder / "out")

    killed.train_to_the_end()

    assert reaped.code == 0, reaped.said
    assert known == {}
    assert killed.attempt(2)["confirmed"]["loss"][0][:2] == [15, 15]
    assert_one_run_like(killed, alone)


def test_what_waits_is_told_with_the_command_that_sends_it(killed: Project) -> None:
    killed.train_until("upload.shared@18", "--resume_from_checkpoint", "12")

    done = killed.mmrun("reap")
    synced = killed.mmrun("sync", "out")

    assert "; not sent from out: " in done.said
    assert "; 'mmrun sync out' or the next training sends that" in done.said
    assert synced.code == 0, synced.said
    assert killed.run.status == "KILLED"


def test_a_status_that_mlflow_run_wrote_over_a_kill_is_put_right(killed: Project) -> None:
    with closing(sqlite3.connect(killed.folder / "mlflow.db")) as database, database:
        database.execute("UPDATE runs SET status = 'FAILED'")

    assert listed(killed)[killed.run.run_id]["state"] == "dead"

    done = killed.mmrun("reap")

    assert done.code == 0, done.said
    assert killed.run.status == "KILLED"


def test_an_ended_run_is_left_as_it_is(finished: Project) -> None:
    before = finished.run

    done = finished.mmrun("reap")

    assert "nothing to do: no run of 'mmrun' is left over" in done.said
    assert finished.run == before
    state = listed(finished)[before.run_id]
    assert (state["state"], state["attempts"], state["latest"]) == ("finished", 1, "checkpoint-23")


@pytest.mark.parametrize("command", ["runs", "reap"])
def test_an_experiment_that_is_not_there_is_refused_with_the_nearest(
    finished: Project, command: str
) -> None:
    done = finished.mmrun(command, "--experiment", "mmrum")

    assert done.code == 2
    assert done.said.startswith("error: there is no experiment 'mmrum' at sqlite:///")
    assert done.said.endswith("  try: --experiment mmrun\n")


def test_where_a_training_would_go_is_what_is_listed(finished: Project) -> None:
    finished.change("tracking:\n", "tracking:\n  experiment: other\n")

    there = finished.mmrun("runs")
    named = finished.mmrun("runs", "--config_path", "experiment.yaml")
    environment = finished.mmrun(
        "runs", "--config_path", "experiment.yaml", MLFLOW_EXPERIMENT_NAME="mmrun"
    )

    assert finished.run.run_id in there.said
    assert "no run of 'other' is recorded" in named.said
    assert "there is 'mmrun'" in named.said
    assert finished.run.run_id in environment.said


def test_a_run_whose_process_is_on_another_machine_is_watched_first(killed: Project) -> None:
    with closing(sqlite3.connect(killed.folder / "mlflow.db")) as database, database:
        query = "UPDATE params SET value = replace(value, ?, 'node7') WHERE key LIKE 'mmrun.lease%'"
        database.execute(query, [socket.gethostname()])

    state = listed(killed)[killed.run.run_id]["state"]
    done = killed.mmrun("reap")

    assert state == "running or dead"
    assert "waiting for a sign of life of a run: " in done.said
    assert "process" in done.said
    assert "on node7 is gone" in done.said
    assert killed.run.status == "KILLED"


def test_the_doctor_tells_a_run_that_no_server_knows_from_one_that_is_lost(
    project: Project,
) -> None:
    project.train_to_the_end("--offline", "--max_steps", "2")

    done = project.mmrun("doctor", "--config_path", "experiment.yaml")

    assert done.code == 0, done.said
    assert "which no server knows yet; try: 'mmrun sync out' makes it there" in done.said
    assert "not sent yet: 1 attempt and " in done.said
