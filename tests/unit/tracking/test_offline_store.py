from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.lease import Lease
from mmrun.tracking.offline_artifacts import waiting_artifacts
from mmrun.tracking.offline_store import OfflineRun, OfflineStore, forget
from mmrun.tracking.store import Point, UnreachableError

KEPT = {"attempts/1.json": b"{}"}


@pytest.fixture
def store(tmp_path: Path) -> OfflineStore:
    return OfflineStore(tmp_path / "offline", uri="http://server", run_id=None, kept={})


@pytest.fixture
def known(tmp_path: Path) -> OfflineStore:
    return OfflineStore(tmp_path / "offline", uri="http://server", run_id="r" * 32, kept=KEPT)


def begun(store: OfflineStore) -> str:
    return store.create(experiment="tests", name="a run", tags={"mmrun.format": "1"}).run_id


def again(store: OfflineStore) -> OfflineStore:
    """Return what the next process finds."""
    return OfflineStore(store.folder, uri=store.uri, run_id=None, kept={})


def test_a_run_outlives_the_process_that_began_it(store: OfflineStore) -> None:
    run_id = begun(store)
    store.set_tags(run_id, {"mmrun.status": "running"})
    store.log_params(run_id, {"cfg.seed": "1"})
    store.set_status(run_id, "KILLED", ended_ms=5)

    run = again(store).read(run_id)

    assert (run.name, run.status) == ("a run", "KILLED")
    assert run.tags == {"mmrun.format": "1", "mmrun.status": "running"}
    assert run.params == {"cfg.seed": "1"}
    waiting = OfflineRun.read(store.folder)
    assert waiting is not None
    assert (waiting.ended_ms, waiting.unknown) == (5, True)


def test_a_run_that_goes_on_has_no_end(store: OfflineStore) -> None:
    run_id = begun(store)
    store.set_status(run_id, "FAILED")
    store.set_status(run_id, "RUNNING")

    waiting = OfflineRun.read(store.folder)

    assert waiting is not None
    assert waiting.ended_ms is None


def test_the_experiment_of_the_environment_wins(
    store: OfflineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of the shell")
    begun(store)

    waiting = OfflineRun.read(store.folder)

    assert waiting is not None
    assert waiting.experiment == "of the shell"


def test_looking_at_a_run_that_a_server_knows_writes_nothing(known: OfflineStore) -> None:
    assert known.read("r" * 32).tags == {"mmrun.format": "1"}
    assert not known.folder.exists()


def test_another_run_is_not_known(known: OfflineStore) -> None:
    with pytest.raises(TrackingError, match="is not the one of this output folder"):
        known.read("s" * 32)


def test_a_parameter_keeps_its_first_value(store: OfflineStore) -> None:
    run_id = begun(store)

    assert store.claim_param(run_id, "mmrun.lease.1", "me")
    assert not store.claim_param(run_id, "mmrun.lease.1", "you")
    with pytest.raises(TrackingError, match="was logged with 'me'"):
        store.log_params(run_id, {"mmrun.lease.1": "you"})


def test_of_two_nodes_one_holds_the_run_and_the_other_sees_it(known: OfflineStore) -> None:
    there = OfflineStore(known.folder, uri=known.uri, run_id="r" * 32, kept=KEPT)
    with Lease(known, "r" * 32):
        known.set_tags("r" * 32, {"mmrun.status": "running"})

        with pytest.raises(TrackingError, match="works on it"):
            Lease(there, "r" * 32).acquire()

        there.set_tags("r" * 32, {"mmrun.attempts": "2"})
        assert known.read("r" * 32).tags["mmrun.attempts"] == "2"


def test_one_of_ten_that_race_claims_a_parameter(known: OfflineStore) -> None:
    stores = [
        OfflineStore(known.folder, uri=known.uri, run_id="r" * 32, kept={}) for _ in range(10)
    ]

    with ThreadPoolExecutor(10) as pool:
        won = list(
            pool.map(lambda n: stores[n].claim_param("r" * 32, "mmrun.lease.1", str(n)), range(10))
        )

    assert sum(won) == 1
    assert known.read("r" * 32).params == {"mmrun.lease.1": str(won.index(True))}


def test_points_are_the_journals(store: OfflineStore) -> None:
    run_id = begun(store)

    with pytest.raises(UnreachableError, match="is not asked"):
        store.log_points(run_id, [Point(key="loss", step=1, timestamp_ms=1, value=1.0)])


def test_nobody_says_that_there_are_no_checkpoints(known: OfflineStore) -> None:
    with pytest.raises(UnreachableError, match="are not known"):
        known.artifacts("r" * 32).list("checkpoints")


def test_what_waits_lies_above_what_is_known(known: OfflineStore, tmp_path: Path) -> None:
    artifacts = known.artifacts("r" * 32)
    artifacts.write("attempts/2.json", b"two")
    file = tmp_path / "error.txt"
    file.write_text("it failed")
    artifacts.upload(file, to="")
    file.write_text("something else")

    assert [entry.path for entry in artifacts.list("attempts")] == [
        "attempts/1.json",
        "attempts/2.json",
    ]
    assert [(entry.path, entry.is_folder) for entry in artifacts.list()] == [
        ("attempts", True),
        ("error.txt", False),
    ]
    assert artifacts.read("attempts/1.json") == b"{}"
    assert artifacts.read("error.txt") == b"it failed"
    assert artifacts.read("attempts/3.json") is None
    assert sorted(waiting_artifacts(known.folder)) == ["attempts/2.json", "error.txt"]


def test_a_file_that_was_being_written_when_its_process_died_does_not_count(
    known: OfflineStore,
) -> None:
    known.artifacts("r" * 32).write("setup/model/config.json", b"{}")
    (known.folder / "artifacts/setup/model/.config.json.partial").write_bytes(b"{")

    assert list(waiting_artifacts(known.folder)) == ["setup/model/config.json"]


def test_a_path_that_leaves_the_run_is_refused(known: OfflineStore) -> None:
    with pytest.raises(TrackingError, match="not a path inside"):
        known.artifacts("r" * 32).write("../escaped", b"")


def test_what_was_told_is_forgotten(store: OfflineStore) -> None:
    begun(store)

    forget(store.folder)

    assert OfflineRun.read(store.folder) is None
    assert not store.folder.exists()


def test_a_state_of_a_newer_mmrun_is_refused(store: OfflineStore) -> None:
    begun(store)
    state = store.folder / "run.json"
    state.write_text(state.read_text().replace('"format": 1', '"format": 2'))

    with pytest.raises(TrackingError, match="has format 2"):
        OfflineRun.read(store.folder)
