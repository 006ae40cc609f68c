"""Only one process works on a run."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.lease import Lease, folder_lock, holder
from mmrun.tracking.process import ProcessId, is_alive, this_process
from mmrun.tracking.store import Run
from tests.fakes import MemoryStore

FAST = 0.01
ELSEWHERE = ProcessId(host="node7", pid=4711, started="1", boot="another boot")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run(store: MemoryStore) -> Run:
    return store.create(experiment="tests", name="a run", tags={"kept": "as it was"})


def claim_by(store: MemoryStore, run: Run, process: ProcessId, *, claim: int = 1) -> None:
    owner = {"process": asdict(process), "since_s": time.time() - 7300, "nonce": "x"}
    store.claim_param(run.run_id, f"mmrun.lease.{claim}", json.dumps(owner))
    store.set_tags(run.run_id, {"mmrun.lease.heartbeat": f"{claim}:5"})


def ended_process() -> ProcessId:
    code = (
        "from mmrun.tracking.process import this_process; from dataclasses import asdict\n"
        "import json, sys; sys.stdout.write(json.dumps(asdict(this_process())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(Path.cwd())},
    )
    return ProcessId(**json.loads(done.stdout))


def lease(store: MemoryStore, run: Run, *, steal: bool = False) -> Lease:
    return Lease(store, run.run_id, steal=steal, beat_s=FAST)


def wait_for(condition: Callable[[], object], *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(FAST)


def test_a_released_lease_can_be_taken_again(store: MemoryStore, run: Run) -> None:
    with lease(store, run):
        held = holder(store.read(run.run_id))
    free = holder(store.read(run.run_id))
    with lease(store, run):
        again = holder(store.read(run.run_id))

    assert free is None
    assert held is not None
    assert again is not None
    assert (held.claim, again.claim, held.process) == (1, 2, this_process())


def test_a_living_process_of_this_machine_is_named(store: MemoryStore, run: Run) -> None:
    me = this_process()
    with lease(store, run), pytest.raises(TrackingError, match=f"process {me.pid} on {me.host}"):
        lease(store, run).acquire()


def test_a_refusal_leaves_the_run_as_it_was(store: MemoryStore, run: Run) -> None:
    claim_by(store, run, this_process())
    before = store.read(run.run_id)

    with pytest.raises(TrackingError, match="cannot be continued"):
        lease(store, run).acquire()

    assert store.read(run.run_id) == before


def test_status_and_other_tags_stay_as_they_were(store: MemoryStore, run: Run) -> None:
    store.set_status(run.run_id, "KILLED")
    with lease(store, run):
        pass

    after = store.read(run.run_id)
    assert (after.status, after.tags["kept"]) == ("KILLED", "as it was")


def test_a_dead_process_of_this_boot_is_replaced_at_once(store: MemoryStore, run: Run) -> None:
    claim_by(store, run, ended_process())

    taken = Lease(store, run.run_id, wait=lambda _: pytest.fail("waited"))
    taken.acquire()
    taken.release()


def test_a_later_process_with_the_same_number_is_not_the_holder(
    store: MemoryStore, run: Run
) -> None:
    claim_by(store, run, replace(this_process(), started="1"))

    with lease(store, run):
        pass


def test_a_silent_process_of_another_machine_is_replaced_after_three_beats(
    store: MemoryStore, run: Run
) -> None:
    claim_by(store, run, ELSEWHERE)
    waits: list[float] = []

    taken = Lease(store, run.run_id, wait=waits.append)
    taken.acquire()
    taken.release()

    assert waits == [10.0, 10.0, 10.0]


def test_a_process_of_another_machine_that_beats_keeps_its_run(
    store: MemoryStore, run: Run
) -> None:
    claim_by(store, run, ELSEWHERE)

    def beat(_: float) -> None:
        store.set_tags(run.run_id, {"mmrun.lease.heartbeat": "1:6"})

    with pytest.raises(TrackingError, match=r"process 4711 on node7, since 2 h 1 min"):
        Lease(store, run.run_id, wait=beat).acquire()


def test_a_process_of_another_machine_that_releases_meanwhile_is_not_in_the_way(
    store: MemoryStore, run: Run
) -> None:
    claim_by(store, run, ELSEWHERE)

    def release(_: float) -> None:
        store.set_tags(run.run_id, {"mmrun.lease.released": "1", "mmrun.lease.heartbeat": "1:6"})

    taken = Lease(store, run.run_id, wait=release)
    taken.acquire()
    taken.release()


def test_steal_takes_the_run_and_the_first_holder_notices(store: MemoryStore, run: Run) -> None:
    first = lease(store, run)
    first.acquire()
    second = lease(store, run, steal=True)
    second.acquire()

    wait_for(first.lost.is_set)
    with pytest.raises(TrackingError, match=f"taken over by process {this_process().pid}"):
        first.check()
    first.release()
    held = holder(store.read(run.run_id))
    second.release()

    assert held is not None
    assert held.claim == 2


def test_the_heartbeat_counts(store: MemoryStore, run: Run) -> None:
    def beats() -> int:
        return int(store.read(run.run_id).tags["mmrun.lease.heartbeat"].removeprefix("1:"))

    with lease(store, run):
        wait_for(lambda: beats() > 3)


def test_an_outage_of_the_server_does_not_lose_the_lease(store: MemoryStore, run: Run) -> None:
    with lease(store, run) as held:
        store.away = True
        time.sleep(5 * FAST)
        store.away = False
        count = store.read(run.run_id).tags["mmrun.lease.heartbeat"]
        wait_for(lambda: store.read(run.run_id).tags["mmrun.lease.heartbeat"] != count)

        held.check()


def test_a_claim_that_cannot_be_read_is_watched_like_a_foreign_one(
    store: MemoryStore, run: Run
) -> None:
    store.claim_param(run.run_id, "mmrun.lease.1", "{}")
    waits: list[float] = []

    taken = Lease(store, run.run_id, wait=waits.append)
    taken.acquire()
    taken.release()

    assert len(waits) == 3


def test_of_ten_that_race_one_wins(store: MemoryStore, run: Run) -> None:
    start = threading.Barrier(10)
    won: list[Lease] = []

    def race() -> None:
        racer = lease(store, run)
        start.wait()
        try:
            racer.acquire()
        except TrackingError:
            return
        won.append(racer)

    threads = [threading.Thread(target=race) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    won[0].release()


def test_this_process_lives_and_an_ended_one_does_not() -> None:
    assert (is_alive(this_process()), is_alive(ended_process())) == (True, False)
    assert is_alive(ELSEWHERE) is None


def test_a_locked_folder_names_who_has_it(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path / "out"),
        pytest.raises(TrackingError, match=f"in use by process {this_process().pid} on"),
        folder_lock(tmp_path / "out"),
    ):
        pass


def test_a_locked_folder_is_told_with_what_the_command_can_do(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path),
        pytest.raises(TrackingError) as usual,
        folder_lock(tmp_path),
    ):
        pass
    with (
        folder_lock(tmp_path),
        pytest.raises(TrackingError) as own,
        folder_lock(tmp_path, hint="wait"),
    ):
        pass

    assert usual.value.hint.endswith("or choose another --output_dir")
    assert own.value.hint == "wait"


def test_a_folder_is_free_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with folder_lock(tmp_path):
            pass


@pytest.mark.parametrize(("steal", "advised"), [(False, True), (None, False)])
def test_stealing_is_advised_only_where_there_is_an_option_for_it(
    store: MemoryStore, run: Run, steal: bool | None, advised: bool
) -> None:
    with lease(store, run), pytest.raises(TrackingError, match="works on it") as caught:
        Lease(store, run.run_id, steal=steal).acquire()

    assert ("--steal" in caught.value.hint) == advised


class _Refusing(MemoryStore):
    """A store that takes claims, and says no to a release."""

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        if "mmrun.lease.released" in tags:
            raise TrackingError("the store refused")
        super().set_tags(run_id, tags)


def test_a_store_that_refuses_a_release_changes_nothing_about_how_a_command_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = _Refusing()
    run = store.create(experiment="tests", name="a run", tags={})

    with lease(store, run):
        pass

    assert "was not released: the store refused" in caplog.text


def test_one_that_is_abandoned_tells_nobody(store: MemoryStore, run: Run) -> None:
    with lease(store, run) as taken:
        taken.abandon()

    assert "mmrun.lease.released" not in store.read(run.run_id).tags
