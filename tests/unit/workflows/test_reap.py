"""Which runs are called KILLED: those whose process died, and no other."""

import json
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmrun.tracking import launcher
from mmrun.tracking.attempts import AttemptRecord, Start
from mmrun.tracking.lease import Lease, folder_lock, holder
from mmrun.tracking.process import ProcessId, this_process
from mmrun.tracking.run_file import RunFile, write_run_file
from mmrun.tracking.store import Run
from mmrun.workflows.ending import Ending, write_ending
from mmrun.workflows.reap import reaped
from mmrun.workflows.records import last_record, save_record
from mmrun.workflows.runs import state_of
from tests.fakes import MemoryStore

ELSEWHERE = ProcessId(host="node7", pid=4711, started="1", boot="another boot")
DEAD = replace(this_process(), started="1")
"""The number of this process, at the time of an earlier one."""
TAGS = {launcher.OWN_TAG: "1", launcher.ROLE_TAG: "training", "mmrun.status": "running"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run(store: MemoryStore) -> Run:
    return store.create(experiment="tests", name="mine", tags=TAGS)


def held(store: MemoryStore, run: Run, process: ProcessId, *, claim: int = 1) -> None:
    owner = {"process": asdict(process), "since_s": time.time(), "nonce": "x"}
    store.claim_param(run.run_id, f"mmrun.lease.{claim}", json.dumps(owner))
    store.set_tags(run.run_id, {"mmrun.lease.heartbeat": f"{claim}:1"})


def record(run: Run, *, ended: str | None = None, output_dir: Path | None = None) -> AttemptRecord:
    return AttemptRecord(
        attempt=1,
        run_id=run.run_id,
        from_step=0,
        started_ms=5000,
        config={"training": {"output_dir": str(output_dir)}},
        host=socket.gethostname(),
        pid=1,
        lineage=(Start(attempt=1, from_step=0, started_ms=5000),),
        to_step=7,
        ended=ended,
    )


def reap(store: MemoryStore, *, meanwhile: Callable[[], None] = lambda: None) -> list[str]:
    return list(reaped(store, "0", beat_s=0.0, wait=lambda _: meanwhile()))


def test_a_dead_process_of_this_machine_is_called_killed_without_waiting(
    store: MemoryStore, run: Run
) -> None:
    held(store, run, DEAD)
    save_record(store, record(run))

    def wait() -> None:
        raise AssertionError("nothing is to be waited for")

    (said,) = reap(store, meanwhile=wait)

    now = store.read(run.run_id)
    assert (now.status, now.tags["mmrun.status"]) == ("KILLED", "killed")
    assert now.tags["mmrun.attempt.1"] == "steps 0 to 7, killed"
    closed = last_record(store, run.run_id)
    assert closed is not None
    assert closed.ended == "killed"
    assert "killed at step 7" in said
    assert holder(now) is None  # whoever goes on need not wait


def test_another_machine_that_gives_no_sign_of_life_is_called_killed(
    store: MemoryStore, run: Run
) -> None:
    held(store, run, ELSEWHERE)

    (said,) = reap(store)

    assert store.read(run.run_id).status == "KILLED"
    assert "process 4711 on node7 is gone" in said


def test_another_machine_whose_heart_beats_is_left_alone(store: MemoryStore, run: Run) -> None:
    held(store, run, ELSEWHERE)
    beats = iter(range(2, 1000))

    def beat() -> None:
        store.set_tags(run.run_id, {"mmrun.lease.heartbeat": f"1:{next(beats)}"})

    (said,) = reap(store, meanwhile=beat)

    assert store.read(run.run_id).status == "RUNNING"
    assert "left alone, process 4711 on node7 works on it" in said


def test_a_living_process_of_this_machine_is_left_alone(store: MemoryStore, run: Run) -> None:
    with Lease(store, run.run_id):
        (said,) = reap(store)

    assert store.read(run.run_id).status == "RUNNING"
    assert "left alone" in said


def test_a_run_that_somebody_takes_while_it_is_watched_is_left_alone(
    store: MemoryStore, run: Run
) -> None:
    reap(store, meanwhile=lambda: held(store, run, this_process()))

    assert store.read(run.run_id).status == "RUNNING"


class Contested(MemoryStore):
    """A store in which another process takes a run at the moment when it is claimed."""

    def claim_param(self, run_id: str, key: str, value: str) -> bool:
        if "node7" not in value:
            held(self, self.read(run_id), ELSEWHERE, claim=int(key.rpartition(".")[2]))
        return super().claim_param(run_id, key, value)


def test_a_run_that_is_resumed_at_the_same_moment_is_left_alone() -> None:
    store = Contested()
    run = store.create(experiment="tests", name="mine", tags=TAGS)
    held(store, run, replace(DEAD), claim=1)

    (said,) = reap(store)

    assert store.read(run.run_id).status == "RUNNING"
    assert "left alone" in said
    assert "was faster" in said


def test_a_holder_that_came_after_the_dead_one_is_asked_for_as_usual(
    store: MemoryStore, run: Run
) -> None:
    held(store, run, DEAD)
    dead = holder(store.read(run.run_id))
    held(store, run, this_process(), claim=2)

    with pytest.raises(Exception, match="works on it"):
        Lease(store, run.run_id, gone=dead).acquire()


@pytest.mark.parametrize(
    ("ended", "status"),
    [("finished", "FINISHED"), ("failed", "FAILED"), ("stopped by SIGTERM", "KILLED")],
)
def test_a_run_that_died_before_its_end_was_told_gets_the_end_it_had(
    store: MemoryStore, run: Run, ended: str, status: str
) -> None:
    held(store, run, DEAD)
    save_record(store, record(run, ended=ended))

    reap(store)

    now = store.read(run.run_id)
    assert (now.status, now.tags["mmrun.status"]) == (status, ended)


def test_an_end_that_waits_on_this_disk_is_told(
    store: MemoryStore, run: Run, tmp_path: Path
) -> None:
    held(store, run, DEAD)
    save_record(store, record(run, output_dir=tmp_path))
    write_run_file(tmp_path, RunFile(run_id=run.run_id, tracking_uri="memory:", experiment_id="0"))
    ended = record(run, ended="finished", output_dir=tmp_path)
    write_ending(tmp_path / "journal", Ending(record=ended, status="FINISHED"))

    (said,) = reap(store)

    assert store.read(run.run_id).status == "FINISHED"
    assert "finished, which could not be told when it ended" in said


def test_a_run_in_whose_folder_somebody_works_is_left_alone(
    store: MemoryStore, run: Run, tmp_path: Path
) -> None:
    held(store, run, DEAD)
    save_record(store, record(run, output_dir=tmp_path))
    write_run_file(tmp_path, RunFile(run_id=run.run_id, tracking_uri="memory:", experiment_id="0"))

    with folder_lock(tmp_path):  # as an offline training does
        (said,) = reap(store)

    assert store.read(run.run_id).status == "RUNNING"
    assert f"left alone: {tmp_path} is in use by" in said


def test_a_run_that_died_before_its_first_attempt_is_closed(store: MemoryStore, run: Run) -> None:
    (said,) = reap(store)

    assert store.read(run.run_id).status == "KILLED"
    assert "killed before its first attempt began" in said


def test_runs_of_other_programs_are_left_alone(store: MemoryStore) -> None:
    theirs = store.create(experiment="tests", name="theirs", tags={})

    assert reap(store) == []
    assert store.read(theirs.run_id).status == "RUNNING"


@pytest.mark.parametrize(
    ("status", "tag", "life", "state"),
    [
        pytest.param("RUNNING", "running", "alive", "running", id="alive"),
        pytest.param("RUNNING", "running", "dead", "dead", id="dead"),
        pytest.param("RUNNING", "running", "unknown", "running or dead", id="elsewhere"),
        pytest.param("FAILED", "running", "dead", "dead", id="rewritten after a kill"),
        pytest.param("FINISHED", "finished", "free", "finished", id="finished"),
        pytest.param("FINISHED", "finished", "alive", "finished", id="in use by a sync"),
        pytest.param(
            "FAILED",
            "stopped by SIGTERM",
            "free",
            "stopped by SIGTERM (MLflow: FAILED)",
            id="rewritten after a stop",
        ),
        pytest.param("KILLED", "stopped by SIGTERM", "free", "stopped by SIGTERM", id="stopped"),
        pytest.param("RUNNING", "killed", "alive", "running", id="a resume begins"),
        pytest.param("RUNNING", "running", "free", "ended, not told how", id="server was away"),
        pytest.param("RUNNING", None, "free", "begun, never worked on", id="just opened"),
        pytest.param("RUNNING", None, "alive", "running", id="before the first attempt"),
        pytest.param("FAILED", None, "free", "failed", id="refused at the beginning"),
    ],
)
def test_what_a_run_is(status: str, tag: str | None, life: str, state: str) -> None:
    tags = {} if tag is None else {"mmrun.status": tag}
    run = Run(run_id="a" * 32, experiment_id="0", name="", status=status, tags=tags)  # type: ignore[arg-type]

    assert state_of(run, life) == state  # type: ignore[arg-type]
