"""What a checkpoint carries: all that waits of its steps, each point encoded once."""

from pathlib import Path

import pytest

from mmrun.tracking.journal import Journal
from mmrun.tracking.pending import PENDING, Pending, read_pending, write_pending
from mmrun.tracking.store import Point
from tests.unit.tracking.points import point


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", attempt=2)


class Checkpoints:
    """Saves what they carry."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder = folder
        self._pending = Pending(journal)

    def at(self, step: int) -> list[int]:
        """Return the steps of the points that the checkpoint of ``step`` carries."""
        folder = self._folder / f"checkpoint-{step}"
        folder.mkdir()
        self._pending.write(folder, step=step)
        return [one.step for one in read_pending(folder)]


@pytest.fixture
def checkpoints(tmp_path: Path, journal: Journal) -> Checkpoints:
    return Checkpoints(tmp_path, journal)


def steps(*numbers: int) -> list[Point]:
    return [point(step=number) for number in numbers]


def test_points_travel_with_a_checkpoint(tmp_path: Path) -> None:
    carried = [point(1.0, step=5), point(float("nan"), step=10)]
    write_pending(tmp_path, carried)

    assert [repr(one) for one in read_pending(tmp_path)] == [repr(one) for one in carried]


def test_a_checkpoint_may_carry_nothing(tmp_path: Path) -> None:
    assert read_pending(tmp_path) == []


def test_each_checkpoint_carries_all_that_waits_of_its_steps(
    journal: Journal, checkpoints: Checkpoints
) -> None:
    journal.append(steps(5, 10))
    assert checkpoints.at(7) == [5]  # training went on while it was written

    journal.append(steps(15, 20))
    assert checkpoints.at(17) == [5, 10, 15]
    assert checkpoints.at(18) == [5, 10, 15]


def test_what_an_earlier_attempt_left_is_carried_from_its_step_on(
    tmp_path: Path, checkpoints: Checkpoints
) -> None:
    Journal(tmp_path / "journal", attempt=1).append(steps(10, 30))

    assert [checkpoints.at(step) for step in (20, 40)] == [[10], [10, 30]]


def test_what_was_sent_is_not_carried_any_more(journal: Journal, checkpoints: Checkpoints) -> None:
    journal.append(steps(5))
    assert checkpoints.at(7) == [5]

    journal.append(steps(15))
    journal.own.acknowledge(journal.own.batch(limit=1).until)
    assert checkpoints.at(17) == [15]

    journal.own.acknowledge(journal.own.size())
    assert checkpoints.at(18) == []


def test_a_point_is_read_from_the_journal_once(journal: Journal, checkpoints: Checkpoints) -> None:
    journal.append(steps(5))
    begun = checkpoints.at(7)
    size = journal.own.size()
    with journal.own.path.open("r+b") as file:
        file.write(b"x" * (size - 1))  # nobody looks there again

    journal.append(steps(15))

    assert checkpoints.at(17) == [*begun, 15]


def test_what_could_not_be_written_is_carried_by_the_next_checkpoint(
    tmp_path: Path, journal: Journal
) -> None:
    pending = Pending(journal)
    journal.append(steps(5, 10))
    with pytest.raises(FileNotFoundError):
        pending.write(tmp_path / "none", step=20)

    pending.write(tmp_path, step=20)

    assert [one.step for one in read_pending(tmp_path)] == [5, 10]


def test_nothing_is_left_in_the_folder(journal: Journal, checkpoints: Checkpoints) -> None:
    journal.append(steps(5))

    checkpoints.at(7)

    assert list(journal.folder.iterdir()) == [journal.own.path]


def test_a_checkpoint_without_waiting_points_has_no_file(
    tmp_path: Path, journal: Journal, checkpoints: Checkpoints
) -> None:
    journal.begin()

    assert checkpoints.at(7) == []
    assert not (tmp_path / "checkpoint-7" / PENDING).exists()
