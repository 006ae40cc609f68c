"""Points survive the process that journaled them."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.journal import CARRIED, Clock, Journal, read_confirmed, read_journals
from mmrun.tracking.lines import encoded
from tests.unit.tracking.points import point

POINTS = [point(0.1 + 0.2, step=1), point(1 / 3, step=2, at=2000, key="eval/bleu é")]


def sent_to(journal: Journal, count: int) -> None:
    """Acknowledge the first ``count`` lines of the attempt's own file."""
    log = journal.logs()[-1]
    for _ in range(count):
        log.acknowledge(log.batch(limit=1).until)


def test_points_come_back_exactly_as_they_were(tmp_path: Path) -> None:
    Journal(tmp_path, attempt=3).append(POINTS)

    assert read_journals(tmp_path) == {3: POINTS}


def test_values_that_are_not_finite_come_back(tmp_path: Path) -> None:
    Journal(tmp_path, attempt=1).append([point(math.nan), point(-math.inf)])

    values = [p.value for p in read_journals(tmp_path)[1]]
    assert math.isnan(values[0])
    assert values[1] == -math.inf


def test_points_survive_a_kill_right_after_they_were_written(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from mmrun.tracking.journal import Journal; from mmrun.tracking.store import Point\n"
        "journal = Journal(Path(sys.argv[1]), attempt=1)\n"
        "journal.append([Point(key='loss', step=1, timestamp_ms=1000, value=0.5)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(Path.cwd()), *sys.path])

    died = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env={**os.environ, "PYTHONPATH": path}, check=False
    )

    assert died.returncode == -signal.SIGKILL
    assert read_journals(tmp_path) == {1: [point(0.5)]}


@pytest.mark.parametrize("cut", range(2, 40, 6))
def test_a_line_that_was_cut_is_left_out_and_the_next_ones_count(tmp_path: Path, cut: int) -> None:
    Journal(tmp_path, attempt=1).append([POINTS[0]])
    Journal(tmp_path, attempt=1).append([POINTS[1]])
    file = tmp_path / "attempt-1.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    later = point(7.0, step=9)

    Journal(tmp_path, attempt=1).append([later])

    assert read_journals(tmp_path) == {1: [POINTS[0], later]}


def test_a_flipped_bit_costs_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    for step in (1, 2, 3):
        journal.append([point(0.5, step=step)])
    file = tmp_path / "attempt-1.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"0.5", b"0.4")
    file.write_bytes(b"".join(lines))

    assert [p.step for p in read_journals(tmp_path)[1]] == [1, 3]


def test_what_was_acknowledged_is_not_unsent_in_the_next_process_either(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    for step in (1, 2, 3):
        journal.append([point(step=step)])
    sent_to(journal, 2)

    assert [p.step for p in journal.unsent()] == [3]
    assert [p.step for p in Journal(tmp_path, attempt=2).unsent()] == [3]


def test_a_lost_mark_means_everything_is_sent_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    journal.append(POINTS)
    sent_to(journal, 1)
    (tmp_path / "attempt-1.sent").write_text("")

    assert Journal(tmp_path, attempt=1).unsent() == POINTS


def test_a_mark_beyond_a_journal_cut_by_a_power_loss_hides_nothing_new(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=1)
    journal.append(POINTS)
    sent_to(journal, 1)
    (tmp_path / "attempt-1.jsonl").write_bytes(b"")

    again = Journal(tmp_path, attempt=1)
    again.append([point(step=7)])

    assert [p.step for p in again.unsent()] == [7]


def test_points_of_a_checkpoint_are_taken_over_once_and_sent_first(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=2)
    journal.append([point(step=30)])
    journal.import_unsent([point(step=10), point(math.nan, step=20)])
    journal.import_unsent([point(step=10), point(math.nan, step=20), point(step=30)])

    assert [p.step for p in journal.unsent()] == [10, 20, 30]
    assert [p.step for p in read_journals(tmp_path)[CARRIED]] == [10, 20]


def test_a_history_that_was_taken_over_in_part_is_completed(tmp_path: Path) -> None:
    points = [point(step=step) for step in range(60)]
    Journal(tmp_path, attempt=1).import_unsent(points)
    file = tmp_path / "attempt-1.carried.jsonl"
    whole, torn, *_ = file.read_text().splitlines(keepends=True)
    file.write_text(whole + torn[:20])

    Journal(tmp_path, attempt=2).import_unsent(points)

    assert sorted(Journal(tmp_path, attempt=2).unsent()) == points


def test_what_an_attempt_confirmed_is_remembered_and_not_sent(tmp_path: Path) -> None:
    journal = Journal(tmp_path, attempt=2)
    journal.append([point(step=30)])
    journal.confirm([point(step=10, at=500), point(step=10, at=500, key="lr")])
    journal.confirm([point(step=20, at=700)])

    assert read_confirmed(tmp_path) == {
        2: {"loss": [[10, 10, 500], [20, 20, 700]], "lr": [[10, 10, 500]]}
    }
    assert [p.step for p in journal.unsent()] == [30]


def test_what_was_confirmed_before_it_was_said_of_whom_is_read(tmp_path: Path) -> None:
    (tmp_path / "attempt-2.jsonl").write_bytes(encoded({"confirmed": [["loss", 10]]}))

    assert read_confirmed(tmp_path) == {2: {"loss": [[10, 10]]}}


def test_an_empty_folder_has_no_journals(tmp_path: Path) -> None:
    assert (read_journals(tmp_path / "none"), Journal(tmp_path, attempt=1).unsent()) == ({}, [])


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file")

    with pytest.raises(TrackingError, match="cannot write the metrics journal"):
        Journal(tmp_path / "journal", attempt=1).append(POINTS)


def test_time_stamps_never_go_back_nor_meet_those_of_an_earlier_attempt() -> None:
    far_ahead = 10**15
    clock = Clock(after_ms=far_ahead)

    assert [clock.now_ms(), clock.now_ms()] == [far_ahead + 1, far_ahead + 2]
