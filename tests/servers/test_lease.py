"""Of many processes that reach for one run, on real stores, one has it."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.lease import Lease, holder
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.process import ProcessId
from mmrun.tracking.store import Run, RunStore
from tests.recovery.background import Training
from tests.recovery.project import Project, assert_one_run_like, outside
from tests.servers.served import Database, Served

RACERS = 10
BEAT_S = 0.3
_TRUST_S = 16
"""For a little less a holder believes that it is still one."""
ELSEWHERE = ProcessId(host="node7", pid=4711, started="1", boot="another boot")


@pytest.fixture(params=["sqlite", "http"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database in a file, and PostgreSQL behind a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db"
    return str(request.getfixturevalue("server")[0])


def test_of_ten_processes_that_race_one_wins_and_is_named(uri: str) -> None:
    run = MlflowStore(uri).create(experiment="race", name="a run", tags={})

    said = subprocess.run(
        [sys.executable, "-m", "tests.servers.race", uri, run.run_id, str(RACERS)],
        env=outside(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    told = [json.loads(line) for line in said.splitlines()]
    (winner,) = [one for one in told if one["refusal"] is None]
    refusals = [one["refusal"] for one in told if one["refusal"] is not None]
    assert len(refusals) == RACERS - 1
    for refusal in refusals:
        assert refusal["code"] == 6
        assert f"process {winner['pid']} on {winner['host']}, since " in refusal["problem"]
        assert "--steal" in refusal["hint"]


@pytest.fixture
def store(server: tuple[str, Database]) -> RunStore:
    return MlflowStore(server[0])


@pytest.fixture
def held_elsewhere(store: RunStore) -> Run:
    """A run that a process of another machine has claimed."""
    run = store.create(experiment="lease", name="a run", tags={})
    claim_elsewhere(store, run.run_id, number=1)
    return run


def claim_elsewhere(store: RunStore, run_id: str, *, number: int) -> None:
    owner = {"process": asdict(ELSEWHERE), "since_s": time.time() - 7300, "nonce": "x"}
    assert store.claim_param(run_id, f"mmrun.lease.{number}", json.dumps(owner))
    store.set_tags(run_id, {"mmrun.lease.heartbeat": f"{number}:1"})


@contextmanager
def beating(store: RunStore, run_id: str) -> Iterator[None]:
    """Let the process of the other machine live."""
    ended = threading.Event()

    def beat() -> None:
        count = 1
        while not ended.wait(BEAT_S / 2):
            count += 1
            store.set_tags(run_id, {"mmrun.lease.heartbeat": f"1:{count}"})

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    ended.set()
    thread.join()


def test_a_process_of_another_machine_that_is_silent_is_replaced(
    store: RunStore, held_elsewhere: Run
) -> None:
    with Lease(store, held_elsewhere.run_id, beat_s=BEAT_S):
        now = holder(store.read(held_elsewhere.run_id))

    assert now is not None
    assert (now.claim, now.process.host) != (1, "node7")


def test_a_process_of_another_machine_that_lives_keeps_its_run(
    store: RunStore, held_elsewhere: Run
) -> None:
    with (
        beating(store, held_elsewhere.run_id),
        pytest.raises(TrackingError, match="process 4711 on node7, since 2 h 1 min works on it"),
    ):
        Lease(store, held_elsewhere.run_id, beat_s=BEAT_S).acquire()


def continued(served: Served, folder: str, *options: str) -> tuple[str, ...]:
    """Return the options that continue the run in another folder."""
    reference = f"{served.run.run_id}@latest"
    return ("--output_dir", folder, "--resume_from_checkpoint", reference, *options)


def test_of_three_trainings_that_start_at_once_one_goes_on(served: Served, alone: Project) -> None:
    served.train_until("upload.manifest@6,step@7,upload.manifest@12,step@14")
    shutil.rmtree(served.out)

    racers = {
        name: Training(served, *continued(served, name), **served.environment) for name in "abc"
    }
    done = {name: racer.end() for name, racer in racers.items()}

    (winner,) = [name for name, one in done.items() if one.code == 0]
    for name in done.keys() - {winner}:
        assert done[name].code == 6, done[name].said
        assert "cannot be continued: process " in done[name].said
    served.out = served.folder / winner
    assert_one_run_like(served, alone)


def test_a_training_that_slept_through_a_takeover_writes_nothing_more(served: Served) -> None:
    served.change("  max_steps: 23\n", "  max_steps: 100000\n")
    served.change("  save_steps: 6\n", "  save_steps: 20\n")
    first = Training(served, **served.environment)
    first.wait_for("step 20:")
    wait_until(lambda: list(served.artifact("checkpoints").glob("*/manifest.json")))
    wait_until(lambda: served.points)
    first.send(signal.SIGSTOP)
    asleep_s = time.monotonic()
    steps = max(step for _, step, _ in served.points) + 30
    other = continued(served, "second", "--max_steps", str(steps), "--steal")
    second = served.train(*other)
    assert second.code == 0, second.said
    time.sleep(max(0, _TRUST_S - (time.monotonic() - asleep_s)))
    before = everything(served)

    first.send(signal.SIGCONT)
    done = first.end()

    assert done.code == 6, done.said
    assert "was taken over by " in done.said
    assert everything(served) == before


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def everything(served: Served) -> tuple[object, ...]:
    artifacts = served.artifact("").rglob("*")
    return (served.runs(), served.points, {path: path.stat().st_mtime_ns for path in artifacts})
