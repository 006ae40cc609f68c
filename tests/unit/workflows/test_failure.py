"""What is kept of a failure."""

import logging

import pytest

from mmrun.errors import TrackingError
from mmrun.workflows.failure import Failure, forget_error, save_error
from tests.fakes import MemoryArtifacts, MemoryStore
from tests.unit.workflows.test_ending import record

FAILURE = Failure(
    problem="ValueError: boom",
    hint="",
    trace="Traceback\n",
    record=record("abc"),
    step=7,
    time_ms=1_700_000_000_000,
    resumes_from=6,
)


def test_it_says_what_where_when_and_how_to_go_on() -> None:
    assert FAILURE.text().splitlines() == [
        "error:   ValueError: boom",
        "run:     abc",
        "attempt: 1",
        "step:    7 (the last that was done)",
        "host:    here, process 1",
        "time:    2023-11-14 22:13:20 UTC",
        "resume:  the same command goes on from checkpoint-6",
        "",
        "Traceback",
    ]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def artifacts(store: MemoryStore) -> MemoryArtifacts:
    store.create(experiment="tests", name=None, tags={})
    return store.artifacts("abc")


def test_each_attempt_keeps_its_own(store: MemoryStore, artifacts: MemoryArtifacts) -> None:
    save_error(store, record("abc"), "first", newest=True)
    save_error(store, record("abc", attempt=2), "second", newest=True)

    assert artifacts.read("error.txt") == b"second"
    assert artifacts.read("attempts/1.error.txt") == b"first"


def test_an_old_one_that_comes_late_is_not_the_newest(
    store: MemoryStore, artifacts: MemoryArtifacts
) -> None:
    save_error(store, record("abc"), "first", newest=False)

    assert artifacts.read("error.txt") is None


def test_a_run_that_goes_on_has_no_error(store: MemoryStore, artifacts: MemoryArtifacts) -> None:
    save_error(store, record("abc"), "first", newest=True)

    forget_error(store, "abc")

    assert artifacts.read("error.txt") is None
    assert artifacts.read("attempts/1.error.txt") == b"first"


class _Undeletable(MemoryStore):
    def artifacts(self, run_id: str) -> MemoryArtifacts:
        raise TrackingError("not allowed")


def test_a_store_that_does_not_delete_stops_no_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        forget_error(_Undeletable(), "abc")

    assert "error.txt of an earlier attempt stays in the run: not allowed" in caplog.text
