"""What writes to a run makes sure first that the run is still held."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.held import only_while_held
from mmrun.tracking.lease import Lease
from mmrun.tracking.store import ArtifactStore, Point, Run, RunStore, UnreachableError
from tests.fakes import MemoryStore

LONG = 1000.0
"""Beats so rare that nobody looks unless a write asks for it."""
WRITES: dict[str, Callable[[RunStore, str, Path], object]] = {
    "points": lambda store, run, _: store.log_points(
        run, [Point(key="loss", step=1, timestamp_ms=1, value=1.0)]
    ),
    "tags": lambda store, run, _: store.set_tags(run, {"mmrun.status": "finished"}),
    "status": lambda store, run, _: store.set_status(run, "FINISHED"),
    "parameters": lambda store, run, _: store.log_params(run, {"cfg.rate": "0.1"}),
    "a table": lambda store, run, _: store.log_table(run, {"a": ["b"]}, path="table.json"),
    "deletion": lambda store, run, _: store.delete(run),
    "a file": lambda store, run, file: store.artifacts(run).upload(file, to="checkpoints"),
    "a small file": lambda store, run, _: store.artifacts(run).write("a.json", b"{}"),
    "deletion of files": lambda store, run, _: store.artifacts(run).delete("kept"),
}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run(store: MemoryStore) -> Run:
    run = store.create(experiment="tests", name="a run", tags={})
    store.artifacts(run.run_id).write("kept", b"kept")
    return run


@pytest.fixture
def asleep(store: MemoryStore, run: Run) -> Iterator[Lease]:
    """The lease of a process that has not looked for longer than it may trust what it saw."""
    lease = Lease(store, run.run_id, beat_s=LONG, patience_s=0.1)
    lease.acquire()
    lease._looked_s -= 2 * LONG
    yield lease
    lease.release()


def test_a_process_that_slept_through_a_takeover_writes_nothing(
    store: MemoryStore, run: Run, asleep: Lease, tmp_path: Path
) -> None:
    gated = only_while_held(store, asleep)
    store.claim_param(run.run_id, "mmrun.lease.2", "{}")
    before, files = store.read(run.run_id), dict(store.artifacts(run.run_id).files)
    (tmp_path / "weights.bin").write_bytes(b"weights")

    for write in WRITES.values():
        with pytest.raises(TrackingError, match="was taken over by"):
            write(gated, run.run_id, tmp_path / "weights.bin")

    assert store.read(run.run_id) == before
    assert store.artifacts(run.run_id).files == files


@pytest.mark.parametrize("what", WRITES)
def test_a_process_that_slept_and_was_not_replaced_goes_on(
    store: MemoryStore, run: Run, asleep: Lease, tmp_path: Path, what: str
) -> None:
    before = (store.read(run.run_id), dict(store.artifacts(run.run_id).files), len(store.deleted))
    (tmp_path / "weights.bin").write_bytes(b"weights")

    WRITES[what](only_while_held(store, asleep), run.run_id, tmp_path / "weights.bin")

    store.deleted, deleted = set(), store.deleted
    assert before != (store.read(run.run_id), store.artifacts(run.run_id).files, len(deleted))


def test_reading_needs_no_lease(store: MemoryStore, run: Run, asleep: Lease) -> None:
    gated = only_while_held(store, asleep)
    store.claim_param(run.run_id, "mmrun.lease.2", "{}")

    assert gated.read(run.run_id).run_id == run.run_id
    assert gated.artifacts(run.run_id).read("kept") == b"kept"
    assert gated.uri == store.uri


def test_what_cannot_be_known_is_an_outage(store: MemoryStore, run: Run, asleep: Lease) -> None:
    gated = only_while_held(store, asleep)
    store.away = True

    with pytest.raises(UnreachableError, match="does not say whether"):
        gated.set_tags(run.run_id, {"a": "1"})

    store.away = False


def methods(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if callable(vars(protocol)[name])} - {
        name for name in vars(protocol) if name.startswith("_")
    }


def test_every_method_of_a_store_is_known_to_write_or_not() -> None:
    reading = {
        "ping",
        "read",
        "find",
        "history",
        "artifacts",
        "list",
        "download",
        "between",
        "experiments",
    }
    claiming = {"create", "claim_param"}
    """They make something new, and take nothing from anybody."""
    writing = {"set_status", "set_tags", "log_params", "log_points", "log_table", "delete"}
    writing_files = {"upload", "write", "delete"}

    assert methods(RunStore) | methods(ArtifactStore) == (
        reading | claiming | writing | writing_files
    )
