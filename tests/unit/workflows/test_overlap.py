"""What the next attempt knows of the overlap, and what it does not wait for."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.attempts import AttemptRecord, Overlap, Start
from mmrun.tracking.journal import Journal
from mmrun.tracking.store import Point, Run, UnreachableError
from mmrun.workflows.overlap import Earlier, StoredPoints, read_earlier
from mmrun.workflows.past import Past
from tests.fakes import MemoryStore
from tests.unit.tracking.points import point

LINEAGE = ((1, 0), (2, 10))
WAIT_S = 30


class SlowStore(MemoryStore):
    """Says what it was asked, and answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.fails: list[TrackingError] = []

    def between(self, run_id: str, key: str, *, first: int, last: int) -> list[Point]:
        assert self.may_answer.wait(WAIT_S)
        self.asked.append((key, first, last))
        if self.fails:
            raise self.fails.pop()
        return super().between(run_id, key, first=first, last=last)


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def run(store: SlowStore) -> Run:
    return store.create(experiment="tests", name=None, tags={})


def earlier(
    store: SlowStore, run: Run, folder: Path, *, lineage: tuple[tuple[int, int], ...] = LINEAGE
) -> Earlier:
    begun = {1: 1000, 2: 2000}
    last = AttemptRecord(
        attempt=2,
        run_id=run.run_id,
        from_step=10,
        started_ms=2000,
        config={},
        host="here",
        pid=1,
        lineage=tuple(Start(*one, begun[one[0]]) for one in lineage),
    )
    past = Past(last=last, lineage=lineage)
    return read_earlier(store, run.run_id, past=past, journal=folder, from_step=20)


def journaled(store: SlowStore, run: Run, folder: Path) -> list[Point]:
    """Log and send the points of two attempts."""
    first = [point(step=step, at=1000 + step) for step in (5, 15, 25, 35)]
    second = [point(step=step, at=2000 + step) for step in (15, 25, 35)]
    for attempt, points in ((1, first), (2, second)):
        for one in points:
            Journal(folder, attempt=attempt).append([one])
    store.log_points(run.run_id, [*first, *second])
    return [*first, *second]


def test_the_store_is_asked_for_no_points_where_every_attempt_was_here(
    store: SlowStore, run: Run, tmp_path: Path
) -> None:
    points = journaled(store, run, tmp_path)

    found = earlier(store, run, tmp_path)

    assert found.stored is None
    assert sorted(found.points) == sorted(p for p in points if p.step >= 20)
    assert found.newest_ms == 2035
    assert store.asked == []


def test_on_another_machine_the_store_is_asked_for_no_more_than_the_overlap(
    store: SlowStore, run: Run, tmp_path: Path
) -> None:
    journaled(store, run, tmp_path / "there")
    store.log_points(run.run_id, [point(step=19, key="old"), point(step=20, key="lr", at=9000)])

    found = earlier(store, run, tmp_path / "here")

    assert found.stored is not None
    assert sorted(p.step for p in found.stored.wait()) == [20, 25, 25, 35, 35]
    assert sorted(store.asked) == [("loss", 20, 35), ("lr", 20, 20)]
    assert found.newest_ms == 9000


def test_a_copy_of_the_folder_does_not_know_what_was_logged_later(
    store: SlowStore, run: Run, tmp_path: Path
) -> None:
    journaled(store, run, tmp_path)
    store.log_points(run.run_id, [point(step=45, at=2045)])

    found = earlier(store, run, tmp_path)

    assert found.stored is not None
    assert 45 in {p.step for p in found.stored.wait()}


def test_a_copy_made_while_an_attempt_had_gone_back_does_not_know_it_either(
    store: SlowStore, run: Run, tmp_path: Path
) -> None:
    journaled(store, run, tmp_path)
    store.log_points(run.run_id, [point(step=55, at=1055)])
    Journal(tmp_path, attempt=1).append([point(step=55, at=1055)])
    store.log_points(run.run_id, [point(step=45, at=2045)])  # the newest by time, not by step

    found = earlier(store, run, tmp_path)

    assert found.stored is not None
    assert 45 in {p.step for p in found.stored.wait()}


def test_the_store_is_asked_where_a_line_is_damaged(
    store: SlowStore, run: Run, tmp_path: Path
) -> None:
    journaled(store, run, tmp_path)
    path = tmp_path / "attempt-1.jsonl"
    path.write_bytes(path.read_bytes().replace(b"25", b"26"))

    found = earlier(store, run, tmp_path)

    assert found.stored is not None
    assert sorted(p.step for p in found.stored.wait()) == [25, 25, 35, 35]


def test_the_time_of_the_last_record_counts(store: SlowStore, run: Run, tmp_path: Path) -> None:
    from tests.unit.workflows.test_past import record

    last = replace(record(run, 0), latest_ms=77_000)
    past = Past(last=last, lineage=((1, 0),))

    found = read_earlier(store, run.run_id, past=past, journal=tmp_path, from_step=20)

    assert found.newest_ms == 77_000


def stored_points(store: SlowStore, run: Run) -> StoredPoints:
    newest = store.read(run.run_id).newest
    return StoredPoints(store, run.run_id, newest=newest, from_step=20)


def test_only_what_can_be_in_the_overlap_waits_for_the_store(
    store: SlowStore, run: Run, tmp_path: Path
) -> None:
    journaled(store, run, tmp_path)
    store.may_answer.clear()
    overlap = Overlap([], from_step=20, stored=stored_points(store, run))

    decisions = [
        overlap.decide(point(step=40)),
        overlap.decide(point(step=25, key="never logged")),
    ]
    store.may_answer.set()
    decisions += [overlap.decide(point(step=25)), overlap.decide(point(7.0, step=35))]

    assert decisions == ["log", "log", "confirm", "diverge"]
    assert overlap.confirmed() == {"loss": [[25, 25, 2025]]}


def test_what_is_known_here_is_compared_too(store: SlowStore, run: Run) -> None:
    store.log_points(run.run_id, [point(1.0, step=25, at=1000)])
    unsent = [point(2.0, step=25, at=3000), point(3.0, step=30, at=3001)]

    overlap = Overlap(unsent, from_step=20, stored=stored_points(store, run))

    assert overlap.decide(point(2.0, step=25)) == "confirm"
    assert overlap.decide(point(3.0, step=30)) == "confirm"


def test_a_server_that_goes_away_leaves_steps_unknown(
    store: SlowStore, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journaled(store, run, tmp_path)
    store.fails = [UnreachableError("the server is away")]
    overlap = Overlap([point(2.0, step=35)], from_step=20, stored=stored_points(store, run))

    decisions = [overlap.decide(point(step=25)), overlap.decide(point(2.0, step=35))]

    assert decisions == ["log", "confirm"]
    assert overlap.unknown == range(20, 36)
    assert "the server is away; what is logged from step 20 on is compared" in caplog.text
    overlap.meet_again([point(step=25)])
    assert overlap.confirmed() == {"loss": [[35, 35, 1000], [25, 25, 1000]]}


def test_a_store_that_refuses_is_an_error(store: SlowStore, run: Run, tmp_path: Path) -> None:
    journaled(store, run, tmp_path)
    store.fails = [TrackingError("not allowed")]
    reading = stored_points(store, run)

    with pytest.raises(TrackingError, match="not allowed"):
        reading.wait()
