"""What is journaled reaches the server once, whatever happens to the server."""

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.journal import Journal
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import Point, Run
from tests.fakes import MemoryStore
from tests.unit.tracking.points import point

FAST = 0.01


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def run(store: MemoryStore) -> Run:
    return store.create(experiment="tests", name="a run", tags={})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, attempt=2)


def sender(store: MemoryStore, run: Run, journal: Journal) -> Sender:
    return Sender(store, run.run_id, journal, every_s=FAST, longest_pause_s=FAST)


def wait_for(condition: Callable[[], object], *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(FAST)


def test_points_arrive_while_training_goes_on(
    store: MemoryStore, run: Run, journal: Journal
) -> None:
    with sender(store, run, journal):
        journal.append([point(step=1)])
        wait_for(lambda: store.history(run.run_id, "loss"))
        journal.append([point(step=2)])
        wait_for(lambda: len(store.history(run.run_id, "loss")) == 2)

    assert journal.unsent() == []


def test_flush_returns_when_the_server_has_everything(
    store: MemoryStore, run: Run, journal: Journal
) -> None:
    points = [point(step=step) for step in range(2500)]
    with Sender(store, run.run_id, journal, every_s=60) as slow:
        for each in points:
            journal.append([each])

        assert slow.flush(10)

    assert store.history(run.run_id, "loss") == points


def test_flush_gives_up_in_time_while_the_server_is_away(
    store: MemoryStore, run: Run, journal: Journal
) -> None:
    store.away = True
    journal.append([point()])

    with sender(store, run, journal) as sending:
        assert not sending.flush(0.1)
        assert sending.away_since is not None

    assert journal.unsent() == [point()]


def test_drain_waits_for_a_server_that_takes_its_time_but_not_for_one_that_is_away(
    run: Run, store: MemoryStore, journal: Journal
) -> None:
    class Slow(MemoryStore):
        def log_points(self, run_id: str, points: Sequence[Point]) -> None:
            time.sleep(0.3)
            super().log_points(run_id, points)

    slow = Slow()
    slow.runs = store.runs
    points = [point(step=step) for step in range(4500)]
    for each in points:
        journal.append([each])

    with sender(slow, run, journal) as sending:
        assert sending.drain(0.8)  # five batches take longer than that together
        assert slow.history(run.run_id, "loss") == points
        slow.away = True
        journal.append([point(step=5000)])
        assert not sending.drain(0.2)


def test_an_outage_is_said_once_and_loses_nothing(
    store: MemoryStore, run: Run, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.away = True
    with sender(store, run, journal) as sending:
        for step in range(20):
            journal.append([point(step=step)])
            wait_for(lambda: sending.away_since)
        store.away = False
        assert sending.flush(10)

    assert len(store.history(run.run_id, "loss")) == 20
    assert sending.away_since is None
    said = [record.message for record in caplog.records]
    assert [("does not answer" in text, "is back" in text) for text in said] == [
        (True, False),
        (False, True),
    ]


def test_a_refusal_keeps_the_points_too(store: MemoryStore, run: Run, journal: Journal) -> None:
    journal.append([point()])
    store.delete(run.run_id)

    with sender(store, run, journal) as sending:
        assert not sending.flush(0.1)

    assert journal.unsent() == [point()]


class ForgetfulStore(MemoryStore):
    """Stores the points, but its answer is lost on the way the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        super().log_points(run_id, points)
        self.asked += 1
        if self.asked == 1:
            raise TrackingError("the connection broke")


def test_points_whose_receipt_was_lost_are_stored_once(journal: Journal) -> None:
    store = ForgetfulStore()
    run = store.create(experiment="tests", name="a run", tags={})
    journal.append([point(), point(math.nan, key="norm")])

    with sender(store, run, journal) as sending:
        assert sending.flush(10)

    assert store.asked == 2
    assert len(store.points[run.run_id]) == 2


def test_what_earlier_attempts_left_is_sent_first(
    store: MemoryStore, run: Run, journal: Journal, tmp_path: Path
) -> None:
    journal.append([point(step=3)])
    journal.import_unsent([point(step=2)])
    Journal(tmp_path, attempt=1).append([point(step=1)])

    with sender(store, run, Journal(tmp_path, attempt=2)) as sending:
        assert sending.flush(10)

    assert [p.step for p in store.points[run.run_id]] == [1, 2, 3]
    assert Journal(tmp_path, attempt=2).unsent() == []


@pytest.mark.parametrize(
    ("key", "value", "reason"), [("loss", math.inf, "is infinite"), ("a#b", 1.0, "has a name")]
)
def test_a_point_that_mlflow_cannot_hold_is_said_once_and_left_out(
    journal: Journal, caplog: pytest.LogCaptureFixture, key: str, value: float, reason: str
) -> None:
    store = MemoryStore()
    run = store.create(experiment="tests", name="a run", tags={})
    journal.append([point(value, step=4, key=key), point(math.nan, key="nan")])
    journal.append([point(value, step=5, key=key)])

    with sender(store, run, journal) as sending:
        assert sending.flush(10)

    assert [p.key for p in store.points[run.run_id]] == ["nan"]
    assert [record.message.count(reason) for record in caplog.records] == [1]
    assert store.read(run.run_id).tags["mmrun.not_sent"] == f"{key}@4"


def test_who_logs_a_line_gets_its_turn_back_soon_while_points_are_sent(
    store: MemoryStore, run: Run, journal: Journal
) -> None:
    usual = sys.getswitchinterval()

    with Sender(store, run.run_id, journal, every_s=0.01) as sender:
        sender.flush(10)
        while_sending = sys.getswitchinterval()

    assert while_sending < usual / 5
    assert sys.getswitchinterval() == usual


def test_nothing_is_sent_after_stop(store: MemoryStore, run: Run, journal: Journal) -> None:
    sending = sender(store, run, journal)
    sending.start()
    sending.stop()
    journal.append([point()])

    assert not sending.flush(0.05)
    assert store.history(run.run_id, "loss") == []
