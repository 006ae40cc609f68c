"""What a resume reads of journals, however long they are."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrun.tracking.journal import Journal
from mmrun.tracking.lines import backwards, forwards
from mmrun.tracking.replay import Divergence
from mmrun.tracking.tail import Left, Tail, last_step, read_left, read_tail
from tests.unit.tracking.points import point

ONE = ((1, 0),)


def journaled(folder: Path, steps: Sequence[int], *, attempt: int = 1) -> Path:
    """Log one point for each step, each later than the one before."""
    journal = Journal(folder, attempt=attempt)
    for number, step in enumerate(steps):
        journal.append([point(step=step, at=1000 * attempt + number)])
    return journal.own.path


def steps(tail: Tail) -> list[int]:
    return sorted(point.step for point in tail.points)


@pytest.mark.parametrize("length", [1, 70, 400_000], ids=["short", "usual", "longer than a block"])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_the_lines_from_the_back_are_those_from_the_front(
    tmp_path: Path, length: int, count: int
) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f"{number}{'x' * length}\n" for number in range(count)) + "torn")

    found = list(backwards(path))

    assert found == [line for line, _ in forwards(path)][::-1]
    assert len(found) == count


def test_blocks_may_end_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    for length in range(2**18 - 3, 2**18 + 3):
        path.write_text(f"{'x' * length}\nlast\n\n")
        assert [len(line) for line in backwards(path)] == [1, 5, length + 1]


def test_there_is_nothing_in_an_absent_file(tmp_path: Path) -> None:
    assert list(backwards(tmp_path / "none")) == []


def test_points_from_the_step_on_are_read(tmp_path: Path) -> None:
    journaled(tmp_path, [10, 20, 30, 40])

    tail = read_tail(tmp_path, lineage=ONE, from_step=30)

    assert (steps(tail), tail.whole, tail.newest_ms) == ([30, 40], True, 1003)


def with_long_beginning(folder: Path, steps: Sequence[int], *, attempt: int = 1) -> Path:
    """Log the steps at the end of a file that is too long to be read, and damaged if it were."""
    log = Journal(folder, attempt=attempt)
    log.begin()
    with log.own.path.open("r+b") as file:
        file.seek(1 << 36)
        file.write(b"\n")
    return journaled(folder, steps, attempt=attempt)


def test_a_long_journal_is_not_read_whole(tmp_path: Path) -> None:
    with_long_beginning(tmp_path, [10, 20, 30])

    tail = read_tail(tmp_path, lineage=ONE, from_step=20)

    assert (steps(tail), tail.whole, tail.newest_ms) == ([20, 30], True, 1002)
    assert last_step(tmp_path) == 30


def test_what_a_checkpoint_carries_is_compared_with_the_end_of_a_long_journal(
    tmp_path: Path,
) -> None:
    with_long_beginning(tmp_path, [10, 20, 30])

    Journal(tmp_path, attempt=2).import_unsent([point(step=20, at=1001), point(step=30, at=1002)])

    assert not list(tmp_path.glob("*.carried.jsonl"))


def test_what_was_logged_beside_the_training_for_older_steps_ends_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    for step, key in ((10, "loss"), (20, "loss"), (10, "mmrun/upload_s"), (30, "loss")):
        journal.append([point(step=step, key=key)])

    tail = read_tail(tmp_path, lineage=ONE, from_step=20)

    assert steps(tail) == [20, 30]


def test_the_last_step_is_one_of_the_training(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    journal.append([point(step=30)])
    journal.append([point(step=10, key="mmrun/upload_s")])
    journaled(tmp_path, [15], attempt=2)

    assert last_step(tmp_path) == 30
    assert last_step(tmp_path / "none") == 0


def test_what_was_confirmed_has_no_time_stamp_and_what_came_before_has(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    journal.append([point(step=5, at=7000)])
    for step in (10, 20, 30):
        journal.confirm([point(step=step)])

    tail = read_tail(tmp_path, lineage=ONE, from_step=20)

    assert (tail.points, tail.newest_ms) == ([], 7000)
    assert last_step(tmp_path) == 30


@pytest.mark.parametrize(("at", "whole"), [(1002, True), (1003, False)])
def test_what_was_met_again_is_here_or_something_is_missing(
    tmp_path: Path, *, at: int, whole: bool
) -> None:
    journaled(tmp_path, [10, 20, 30])
    Journal(tmp_path, attempt=2).confirm([point(step=30, at=at)])

    assert read_tail(tmp_path, lineage=((1, 0), (2, 20)), from_step=20).whole == whole


def test_every_attempt_has_its_own_end(tmp_path: Path) -> None:
    journaled(tmp_path, [10, 20, 30], attempt=1)
    journaled(tmp_path, [20, 25], attempt=2)

    tail = read_tail(tmp_path, lineage=((1, 0), (2, 10)), from_step=25)

    assert (steps(tail), tail.whole) == ([25, 30], True)


def test_something_may_be_missing_where_an_attempt_was_elsewhere(tmp_path: Path) -> None:
    journaled(tmp_path, [10], attempt=1)

    assert not read_tail(tmp_path, lineage=((1, 0), (2, 5)), from_step=5).whole


def test_an_attempt_that_logged_nothing_was_here_all_the_same(tmp_path: Path) -> None:
    Journal(tmp_path, attempt=1).begin()

    tail = read_tail(tmp_path, lineage=ONE, from_step=0)

    assert tail == Tail(points=[], newest_ms=0, whole=True)


def test_a_damaged_line_means_that_something_is_missing(tmp_path: Path) -> None:
    path = journaled(tmp_path, [10, 20, 30])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"20", b"21"), lines[2]]))

    later = read_tail(tmp_path, lineage=ONE, from_step=15)
    after = read_tail(tmp_path, lineage=ONE, from_step=31)

    assert (steps(later), later.whole) == ([30], False)
    assert after.whole, "what is older than needed may be damaged"


def test_a_line_that_a_death_cut_is_none(tmp_path: Path) -> None:
    path = journaled(tmp_path, [10, 20, 30])
    path.write_bytes(path.read_bytes()[:-5])

    tail = read_tail(tmp_path, lineage=ONE, from_step=10)

    assert (steps(tail), tail.whole) == ([10, 20], True)


@pytest.mark.parametrize(("begun", "found"), [(30, [30]), (29, [])])
def test_what_came_with_a_checkpoint_is_no_newer_than_where_its_attempt_began(
    tmp_path: Path, begun: int, found: list[int]
) -> None:
    journal = Journal(tmp_path, attempt=2)
    journal.import_unsent([point(step=step) for step in (30, 10, 20)])
    journal.begin()

    tail = read_tail(tmp_path, lineage=((2, begun),), from_step=30)

    assert (steps(tail), tail.whole) == (found, True)


def test_what_is_left_is_what_the_record_does_not_know(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=2)
    journal.confirm([point(step=10)])
    journal.diverge([Divergence("loss", 11, 1.0, 2.0)])
    known = journal.own.size()
    journal.confirm([point(step=20), point(step=20, key="lr")])
    journal.diverge([Divergence("loss", 21, 1.0, 2.0, ("training.seed",))])
    journal.append([point(2.0, step=21)])

    assert read_left(tmp_path, attempt=2, after=known) == Left(
        until=journal.own.size(),
        last_step=21,
        confirmed={"loss": [[20, 20, 1000]], "lr": [[20, 20, 1000]]},
        diverged=[Divergence("loss", 21, 1.0, 2.0, ("training.seed",))],
    )
    assert read_left(tmp_path, attempt=1, after=7) == Left(until=7)
