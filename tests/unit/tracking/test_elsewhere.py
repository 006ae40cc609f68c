"""What another folder has logged again is not sent from this one; all else is."""

import math
from pathlib import Path

import pytest

from mmrun.tracking.attempts import Start
from mmrun.tracking.history import Trail
from mmrun.tracking.journal import Journal
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import Point, Run
from mmrun.tracking.tail import read_left, read_tail
from tests.fakes import MemoryStore
from tests.unit.tracking.points import point

BEGUN = ((1, 0), (2, 6))
"""The first attempt from step 0, the second one from step 6."""


class AskedStore(MemoryStore):
    """Counts how often it is asked for points, and how many it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.returned = 0

    def between(self, run_id: str, key: str, *, first: int, last: int) -> list[Point]:
        found = super().between(run_id, key, first=first, last=last)
        self.asked += 1
        self.returned += len(found)
        return found


@pytest.fixture
def store() -> AskedStore:
    return AskedStore()


@pytest.fixture
def run(store: AskedStore) -> Run:
    return store.create(experiment="tests", name="a run", tags={})


def send(store: MemoryStore, run: Run, folder: Path, *, attempt: int) -> Sender:
    """Send what waits in the folder, as the attempt with this number does."""
    journal = Journal(folder, attempt=attempt)
    with Sender(store, run.run_id, journal, lineage=BEGUN, every_s=0.01) as sender:
        sender.flush(0.2 if store.away else 10)
    return sender


@pytest.mark.parametrize(
    ("waiting", "stored", "sent"),
    [
        pytest.param(point(0.5, step=10), point(0.5, step=10, at=2000), False, id="the same"),
        pytest.param(point(0.5, step=10), point(0.7, step=10, at=2000), True, id="another value"),
        pytest.param(point(0.5, step=10), point(0.5, step=11, at=2000), True, id="another step"),
        pytest.param(point(0.5, step=5), point(0.5, step=5, at=2000), True, id="not done again"),
        pytest.param(
            point(math.nan, step=10), point(math.nan, step=10, at=2000), False, id="no number"
        ),
        pytest.param(
            point(3.0, step=8, key="eval_runtime"),
            point(4.0, step=8, key="eval_runtime", at=2000),
            False,
            id="timing",
        ),
    ],
)
def test_what_is_sent_of_a_killed_attempt(
    store: AskedStore, run: Run, tmp_path: Path, *, waiting: Point, stored: Point, sent: bool
) -> None:
    Journal(tmp_path, attempt=1).append([waiting])
    store.log_points(run.run_id, [stored])

    sender = send(store, run, tmp_path, attempt=3)

    assert len(store.points[run.run_id]) == 1 + sent
    assert sender.doubles == 1 - sent
    assert Journal(tmp_path, attempt=3).unsent() == []


@pytest.mark.parametrize(
    ("stored_ms", "confirmed"),
    [
        pytest.param(500, {"loss": [[10, 10, 500]]}, id="logged before: met again"),
        pytest.param(2000, {}, id="logged later, by who went on elsewhere"),
    ],
)
def test_a_value_that_was_there_before_counts_for_who_did_the_step_again(
    store: AskedStore, run: Run, tmp_path: Path, *, stored_ms: int, confirmed: object
) -> None:
    journal = Journal(tmp_path, attempt=2)
    journal.append([point(0.5, step=10, at=1000)])
    journal.append([point(0.4, step=30, at=1001)])
    store.log_points(run.run_id, [point(0.5, step=10, at=stored_ms)])

    with Sender(store, run.run_id, Journal(tmp_path, attempt=3), lineage=BEGUN) as sender:
        sender.flush(10)

    assert read_left(tmp_path, attempt=2, after=0).confirmed == confirmed
    tail = read_tail(tmp_path, lineage=((2, 6),), from_step=20)
    assert [found.step for found in tail.points] == [30]


def test_what_a_machine_that_was_cut_off_logged_is_told_as_its_own(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    Journal(tmp_path, attempt=1).append(
        [point(0.9, step=20, at=5000), point(0.8, step=25, at=6000)]
    )
    store.log_points(run.run_id, [point(0.5, step=20, at=4500)])
    starts = (Start(1, 0, 1000), Start(2, 6, 4000))

    journal = Journal(tmp_path, attempt=3)
    with Sender(store, run.run_id, journal, lineage=BEGUN, starts=starts, every_s=0.01) as sender:
        assert sender.flush(10)

    trail = Trail(lineage=starts)
    authors = {p.value: trail.attempt_of(p) for p in store.history(run.run_id, "loss")}
    assert authors == {0.5: 2, 0.9: 1, 0.8: 1}


def test_of_a_long_history_only_the_end_is_read(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    store.log_points(run.run_id, [point(step=step, at=2000) for step in range(1000)])
    store.log_points(run.run_id, [point(step=20, key="old", at=2000)])
    Journal(tmp_path, attempt=1).append(
        [point(step=990), point(step=995), point(step=990, key="old"), point(key="new", step=7)]
    )

    sender = send(store, run, tmp_path, attempt=3)

    assert sender.doubles == 2
    assert (store.asked, store.returned) == (1, 10)


def test_points_may_wait_in_any_order(store: AskedStore, run: Run, tmp_path: Path) -> None:
    store.log_points(run.run_id, [point(step=step, at=2000) for step in range(100)])
    Journal(tmp_path, attempt=3).import_unsent([point(step=step) for step in (50, 7, 99, 8)])

    assert send(store, run, tmp_path, attempt=3).doubles == 4


def test_what_came_with_a_checkpoint_is_no_double_either(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    Journal(tmp_path, attempt=3).import_unsent([point(step=10), point(step=11)])
    store.log_points(run.run_id, [point(step=10, at=2000)])

    send(store, run, tmp_path, attempt=3)

    assert [stored.step for stored in store.points[run.run_id]] == [10, 11]


def test_of_two_killed_attempts_in_two_folders_one_is_sent(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    for attempt in (1, 2):
        folder = tmp_path / str(attempt)
        Journal(folder, attempt=attempt).append([point(step=10, at=1000 * attempt)])

        send(store, run, folder, attempt=3)

    assert store.points[run.run_id] == [point(step=10, at=1000)]


def test_nothing_is_lost_while_the_store_cannot_be_asked(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    waiting = point(step=10)
    Journal(tmp_path, attempt=1).append([waiting])
    store.away = True

    send(store, run, tmp_path, attempt=3)

    assert Journal(tmp_path, attempt=3).unsent() == [waiting]


def test_the_store_is_not_asked_where_all_attempts_were_here(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    for attempt in (1, 2, 3):
        Journal(tmp_path, attempt=attempt).append([point(step=10 + attempt)])

    send(store, run, tmp_path, attempt=3)

    assert (len(store.points[run.run_id]), store.asked) == (3, 0)


def test_the_store_is_not_asked_for_what_is_logged_now(
    store: AskedStore, run: Run, tmp_path: Path
) -> None:
    Journal(tmp_path, attempt=3).append([point(step=10)])

    send(store, run, tmp_path, attempt=3)

    assert (len(store.points[run.run_id]), store.asked) == (1, 0)
