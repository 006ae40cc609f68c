"""Training that asks no server, killed anywhere, and recorded later as if there had been one."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from mmrun.tracking.attempts import is_timing
from tests.mlflow_server import free_port
from tests.recovery.project import MMRUN, Project, assert_one_run_like

NOBODY = f"http://127.0.0.1:{free_port()}"
"""An address at which nothing listens."""
HERE = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
QUERY = "SELECT key, step, value FROM metrics WHERE run_uuid = ?"


def journaled(project: Project) -> set[tuple[str, int, int]]:
    """Return metric, step and time stamp of every point that was journaled."""
    lines = [
        json.loads(line.partition(" ")[2])
        for file in (project.out / "journal").glob("attempt-*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return {(key, step, at) for line in lines if type(line) is list for key, step, at, _ in line}


def stored(project: Project) -> set[tuple[str, int, int]]:
    """Return metric, step and time stamp of every point in the database."""
    return set(project._rows("SELECT key, step, timestamp FROM metrics"))


def sync(project: Project, *options: str, **environment: str) -> str:
    done = project.mmrun("sync", "out", *options, **environment)
    assert done.code == 0, done.said
    return done.said


@pytest.fixture(scope="module")
def copies(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train offline, to a kill and then to the end; return the folder, with copies beside it."""
    base = tmp_path_factory.mktemp("offline")
    project = Project(base / "project")
    project.write(small_data)
    project.train_until("spool.linked@12,step@15", "--offline", MLFLOW_TRACKING_URI=NOBODY)
    project.keep(base / "killed")
    done = project.train("--offline", MLFLOW_TRACKING_URI=NOBODY)
    assert done.code == 0, done.said
    assert "'mmrun sync out' records it" in done.said
    assert not (project.folder / "mlflow.db").exists()
    project.keep(base / "done")
    return project.folder


@pytest.fixture
def offline(copies: Path) -> Project:
    """A run that no server knows, killed in the middle of an epoch and not gone on with."""
    project = Project(copies)
    project.restore(copies.with_name("killed"))
    return project


@pytest.fixture
def done_offline(copies: Path) -> Project:
    """The same run, gone on with to its end, and still unknown to every server."""
    project = Project(copies)
    project.restore(copies.with_name("done"))
    return project


def test_a_run_trained_offline_becomes_the_run_that_a_server_would_have(
    done_offline: Project, alone: Project
) -> None:
    offline = done_offline

    said = sync(offline, "--tracking_uri", "sqlite:///mlflow.db")

    assert "sent 2 offline attempts" in said
    assert_one_run_like(offline, alone)
    assert stored(offline) == journaled(offline)
    ours = {key for key in offline.run.params if key.startswith("cfg.")}
    assert ours == {key for key in alone.run.params if key.startswith("cfg.")}
    assert offline.attempt(1)["ended"] == "killed"
    verified = offline.mmrun("checkpoints", "verify", offline.run.run_id)
    assert (verified.code, verified.said.count("whole")) == (0, 3), verified.said
    assert "nothing was waiting" in sync(offline)


def test_the_run_has_the_times_of_the_training_not_of_the_sending(done_offline: Project) -> None:
    offline = done_offline
    sync(offline, "--tracking_uri", "sqlite:///mlflow.db")

    (times,) = offline._rows("SELECT start_time, end_time FROM runs")
    first, last = offline._rows("SELECT min(timestamp), max(timestamp) FROM metrics")[0]
    assert times[0] <= first <= last <= times[1]
    assert times[1] == offline.attempt(2)["ended_ms"]


@pytest.mark.parametrize(
    "moment",
    [
        "offline.made",
        "offline.noted",
        "offline.renamed",
        "offline.told",
        "offline.forgotten",
        "points.sent",
        "upload.files",
        "upload.manifest",
    ],
)
def test_a_sync_that_dies_anywhere_is_done_again(
    done_offline: Project, alone: Project, moment: str
) -> None:
    offline = done_offline
    killed = offline.mmrun("sync", "out", **HERE, MMRUN_KILL_AT=moment)
    assert killed.code == -signal.SIGKILL, killed.said

    sync(offline, **HERE)

    assert_one_run_like(offline, alone)
    assert stored(offline) == journaled(offline)


@pytest.mark.parametrize("moment", ["offline.made", "offline.noted", "offline.renamed", ""])
def test_a_training_that_may_ask_again_goes_on_with_the_run(
    offline: Project, alone: Project, moment: str
) -> None:
    if moment:
        offline.train_until(moment, **HERE)

    done = offline.train(**HERE)

    assert done.code == 0, done.said
    assert_one_run_like(offline, alone)
    assert offline.attempt(1)["offline"]
    assert not offline.attempt(2)["offline"]
    assert not (offline.out / "offline").exists()


def test_offline_training_goes_on_where_a_sync_died_in_the_middle(
    offline: Project, alone: Project
) -> None:
    offline.mmrun("sync", "out", **HERE, MMRUN_KILL_AT="offline.renamed")

    done = offline.train("--offline", **HERE)
    assert done.code == 0, done.said
    sync(offline, **HERE)

    assert_one_run_like(offline, alone)


def test_a_resume_needs_no_server(killed: Project, alone: Project) -> None:
    refused = killed.train(MLFLOW_TRACKING_URI=NOBODY)
    assert refused.code == 6, refused.said
    assert "--offline" in refused.said

    done = killed.train("--offline", MLFLOW_TRACKING_URI=NOBODY)
    assert done.code == 0, done.said
    assert killed.run.status == "RUNNING"
    sync(killed, **HERE)

    assert_one_run_like(killed, alone)
    assert [killed.attempt(number)["offline"] for number in (1, 2)] == [False, True]
    assert killed.attempt(1)["ended"] == "killed"


def test_a_killed_run_is_not_said_to_be_running_once_it_was_sent(offline: Project) -> None:
    sync(offline, **HERE)

    assert offline.run.status == "KILLED"
    assert offline.run.tags["mmrun.status"] == "killed"
    assert offline.attempt(1)["ended"] == "killed"


def test_a_stop_on_request_is_recorded_with_its_time(project: Project) -> None:
    done = project.train_and_send(signal.SIGTERM, at_line="step 10:", options=("--offline",))
    assert done.code == 75, done.said
    sync(project, **HERE)

    assert project.run.status == "KILLED"
    assert project.attempt(1)["ended"] == "stopped by SIGTERM"
    (ended_ms,) = project._rows("SELECT end_time FROM runs")[0]
    assert ended_ms == project.attempt(1)["ended_ms"]


def test_an_end_that_could_not_be_written_down_whole_is_told_of_the_run_that_was_made(
    offline: Project, alone: Project
) -> None:
    offline.train_until("ended", "--offline", MLFLOW_TRACKING_URI=NOBODY)

    assert "finished" in sync(offline, **HERE)

    assert_one_run_like(offline, alone)


def test_what_failed_offline_is_recorded_as_failed(project: Project) -> None:
    words = f"ulimit -f 300; exec {MMRUN} train --config_path experiment.yaml --offline"
    failed = project.command(["bash", "-c", words])  # no checkpoint can be written
    assert failed.code == 5, failed.said

    assert "sent 1 offline attempt and" in sync(project, **HERE)

    assert project.run.status == "FAILED"
    assert "takes no more" in project.artifact("error.txt").read_text(encoding="utf-8")
    project.train_to_the_end()
    assert project.run.status == "FINISHED"


@pytest.mark.parametrize("moment", ["run.created", "run.noted"])
def test_a_death_before_the_first_attempt_leaves_nothing_to_tell(
    project: Project, alone: Project, moment: str
) -> None:
    project.train_until(moment, "--offline")

    project.train_to_the_end()

    assert_one_run_like(project, alone)


# Two machines


@pytest.fixture
def two_ways(killed: Project) -> Project:
    """A run that went on offline in ``out`` while another machine went on with it, too."""
    killed.train_to_the_end("--offline")
    reference = f"{killed.run.run_id}@latest"
    killed.train_to_the_end("--resume_from_checkpoint", reference, "--output_dir", "elsewhere")
    return killed


def test_two_second_attempts_are_never_mixed(two_ways: Project, alone: Project) -> None:
    for refused in (two_ways.mmrun("sync", "out"), two_ways.train("--max_steps", "30")):
        assert refused.code == 6, refused.said
        assert "both have an attempt 2" in refused.said
        assert "--as_new_run" in refused.said

    assert two_ways.run.status == "FINISHED"
    assert two_ways.history == alone.history


def test_what_was_trained_offline_becomes_a_run_of_its_own_on_request(
    two_ways: Project, alone: Project
) -> None:
    first = two_ways.run.run_id

    said = sync(two_ways, "--as_new_run")

    runs = {run.run_id: run for run in two_ways.runs()}
    (new,) = runs.keys() - {first}
    assert new in said
    assert runs[new].tags["mmrun.parted_from"] == first
    assert runs[new].status == runs[first].status == "FINISHED"
    parts = [
        {(k, s): v for k, s, v in two_ways._rows(QUERY, run) if not is_timing(k)} for run in runs
    ]
    assert parts[0] == parts[1] == alone.history
    verified = two_ways.mmrun("checkpoints", "verify", new)
    assert (verified.code, verified.said.count("whole")) == (0, 3), verified.said
    again = two_ways.train("--max_steps", "30")
    assert again.code == 0, again.said
    assert new in again.said


def test_two_copies_of_what_was_trained_offline_become_two_runs(done_offline: Project) -> None:
    shutil.copytree(done_offline.out, done_offline.folder / "copy", symlinks=True)

    sync(done_offline, **HERE)
    copied = done_offline.mmrun("sync", "copy", **HERE)

    assert copied.code == 0, copied.said
    assert [run.status for run in done_offline.runs()] == ["FINISHED", "FINISHED"]


def test_a_new_run_is_only_made_of_what_was_trained_offline(finished: Project) -> None:
    done = finished.mmrun("sync", "out", "--as_new_run")

    assert done.code == 2, done.said
    assert "has nothing that was trained offline" in done.said


def test_what_another_machine_had_logged_is_met_again_and_not_doubled(
    killed: Project, alone: Project
) -> None:
    sync(killed)
    shutil.rmtree(killed.out / "journal")  # as on a machine that only has the checkpoints
    killed.train_to_the_end("--offline", "--resume_from_checkpoint", "12")

    sync(killed)

    assert_one_run_like(killed, alone)
    shown = killed.mmrun("history", killed.run.run_id, "--format", "json")
    rows = {(row["metric"], row["step"]): row["value"] for row in json.loads(shown.said)}
    assert {place: v for place, v in rows.items() if not is_timing(place[0])} == alone.history


# What cannot be done offline


@pytest.mark.parametrize(
    ("options", "environment", "code", "said"),
    [
        pytest.param(
            ("--fork", "--resume_from_checkpoint", "latest"), {}, 2, "--fork needs", id="a fork"
        ),
        pytest.param((), {"MLFLOW_RUN_ID": "0" * 32}, 2, "MLFLOW_RUN_ID needs", id="mlflow run"),
        pytest.param(
            ("--resume_from_checkpoint", f"{'0' * 32}@latest", "--output_dir", "new"),
            {},
            6,
            "is not the one of this output folder",
            id="another run",
        ),
    ],
)
def test_what_needs_the_server_is_refused(
    killed: Project, options: tuple[str, ...], environment: dict[str, str], code: int, said: str
) -> None:
    done = killed.train("--offline", *options, **environment)

    assert done.code == code, done.said
    assert said in done.said
    assert not (killed.out / "offline").exists()


def test_a_run_whose_checkpoints_are_only_in_the_store_never_begins_anew(killed: Project) -> None:
    killed.forget_local_checkpoints()

    done = killed.train("--offline")
    plan = killed.train("--dry-run")

    assert done.code == 5, done.said
    assert "leave --offline out" in done.said
    assert plan.code == 0, plan.said
    assert "in the store" in plan.said


def test_nothing_that_waits_is_overwritten(offline: Project) -> None:
    done = offline.train("--overwrite_output_dir", "true", **HERE)

    assert done.code == 6, done.said
    assert "mmrun sync out" in done.said


def test_what_is_known_here_can_be_looked_at_before_it_is_sent(offline: Project) -> None:
    plan = offline.train("--dry-run", **HERE)
    history = offline.mmrun("history", "out", "--metric", "loss", "--format", "csv", **HERE)
    listed = offline.mmrun("checkpoints", "list", "out", **HERE)

    assert (plan.code, history.code, listed.code) == (0, 0, 0)
    assert "checkpoint-12" in plan.said
    assert "loss,10," in history.said
    assert "mmrun sync out" in listed.said
    assert not (offline.folder / "mlflow.db").exists()


def test_a_damaged_record_of_what_waits_is_said_and_kept(offline: Project) -> None:
    (offline.out / "offline/run.json").write_text("{", encoding="utf-8")

    done = offline.mmrun("sync", "out", **HERE)

    assert done.code == 6, done.said
    assert "run.json is damaged" in done.said
    assert (offline.out / "train/checkpoint-12").is_dir()


def test_a_translation_needs_no_server_either(offline: Project) -> None:
    offline.change(
        "  validation_metadata", "  test_metadata_file: data/validation.tsv\n  validation_metadata"
    )
    words = ("generate", "--config_path", "experiment.yaml", "--metric_name", "chrf")

    refused = offline.mmrun(*words, **HERE)
    done = offline.mmrun(*words, "--offline", MLFLOW_TRACKING_URI=NOBODY)

    assert refused.code == 6, refused.said
    assert "mmrun sync out" in refused.said
    assert done.code == 0, done.said
    assert "not recorded in MLflow" in done.said
    assert (offline.out / "generate/scores.json").exists()
