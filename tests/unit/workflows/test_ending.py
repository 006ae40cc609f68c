"""How an attempt ended is known here until the store knows it, too."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.attempts import AttemptRecord, Start
from mmrun.workflows.ending import (
    Ending,
    deliver_ending,
    read_ending,
    say_ending,
    write_ending,
)
from mmrun.workflows.records import last_record, save_record
from tests.fakes import MemoryStore


def record(
    run_id: str,
    *,
    attempt: int = 1,
    ended: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> AttemptRecord:
    start = Start(attempt=attempt, from_step=0, started_ms=5000)
    return AttemptRecord(
        attempt=attempt,
        run_id=run_id,
        from_step=0,
        started_ms=5000,
        config=config or {},
        host="here",
        pid=1,
        lineage=(start,),
        to_step=7,
        ended=ended,
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run_id(store: MemoryStore) -> str:
    run = store.create(experiment="tests", name=None, tags={})
    save_record(store, record(run.run_id))
    return run.run_id


def test_an_ending_is_delivered_once(store: MemoryStore, run_id: str, tmp_path: Path) -> None:
    ending = Ending(record=record(run_id, ended="finished"), status="FINISHED")
    write_ending(tmp_path, ending)

    assert deliver_ending(store, tmp_path) == ending

    run = store.read(run_id)
    assert (run.status, run.tags["mmrun.status"]) == ("FINISHED", "finished")
    assert deliver_ending(store, tmp_path) is None


def test_a_failure_is_delivered_with_its_trace(
    store: MemoryStore, run_id: str, tmp_path: Path
) -> None:
    failed = Ending(record=record(run_id, ended="failed"), status="FAILED", error="Traceback")
    write_ending(tmp_path, failed)

    deliver_ending(store, tmp_path)

    assert store.read(run_id).status == "FAILED"
    assert store.artifacts(run_id).read("error.txt") == b"Traceback"


def test_while_the_store_is_away_the_ending_stays_here(
    store: MemoryStore, run_id: str, tmp_path: Path
) -> None:
    write_ending(tmp_path, Ending(record=record(run_id, ended="finished"), status="FINISHED"))
    store.away = True

    with pytest.raises(TrackingError, match="does not answer"):
        deliver_ending(store, tmp_path)

    assert read_ending(tmp_path) is not None


def test_where_another_attempt_went_on_only_the_record_is_put_right(
    store: MemoryStore, run_id: str, tmp_path: Path
) -> None:
    write_ending(
        tmp_path, Ending(record=record(run_id, ended="stopped by SIGTERM"), status="KILLED")
    )
    save_record(store, record(run_id, attempt=2))

    deliver_ending(store, tmp_path)

    run = store.read(run_id)
    assert run.status == "RUNNING"
    assert "mmrun.status" not in run.tags
    assert "stopped by SIGTERM" in run.tags["mmrun.attempt.1"]
    newest = last_record(store, run_id)
    assert newest is not None
    assert newest.attempt == 2


def test_a_disk_that_takes_nothing_does_not_keep_the_store_from_being_told(
    store: MemoryStore, run_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "journal"
    journal.touch()  # so nothing can be written into it

    say_ending(
        store, journal, Ending(record=record(run_id, ended="failed"), status="FAILED", error="E")
    )

    assert store.read(run_id).status == "FAILED"
    assert "how the attempt ended could not be written" in caplog.text


def test_an_error_that_names_a_file_in_no_utf_8_is_told(
    store: MemoryStore, run_id: str, tmp_path: Path
) -> None:
    failed = record(run_id, ended="failed", config={"data": "clip\udce9"})

    say_ending(store, tmp_path, Ending(record=failed, status="FAILED", error="no clip\udce9.npy"))

    assert store.read(run_id).status == "FAILED"
    assert store.artifacts(run_id).read("error.txt") == rb"no clip\udce9.npy"
    assert last_record(store, run_id) == failed
    assert deliver_ending(store, tmp_path) is None
