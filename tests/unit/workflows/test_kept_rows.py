from pathlib import Path

import pytest

from mmrun.errors import TrackingError
from mmrun.tasks.written import Candidate, Written
from mmrun.workflows.kept_rows import kept_rows


def row(text: str) -> Written:
    return Written(candidates=(Candidate(text=text, score=-0.25), Candidate(text="", score=-1.5)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where two batches are kept."""
    folder = tmp_path / ".generate" / "checkpoint-6.abc"
    with kept_rows(folder) as kept:
        kept.add([4, 2], [row("one\ttwo"), Written()])
        kept.add([0], [row("three")])
    return folder


def test_rows_come_back_as_they_were_kept(folder: Path) -> None:
    with kept_rows(folder) as kept:
        assert kept.rows == {4: row("one\ttwo"), 2: Written(), 0: row("three")}


@pytest.mark.parametrize(
    "torn",
    [
        pytest.param(lambda content: content[:-1], id="without its end"),
        pytest.param(lambda content: content[:-20], id="half"),
        pytest.param(lambda content: content[:-20] + b"\0" * 20, id="not flushed to the disk"),
    ],
)
def test_a_torn_line_is_cut_off_and_its_rows_are_not_done(folder: Path, torn: object) -> None:
    file = folder / "rows.jsonl"
    whole = file.read_bytes()
    assert callable(torn)
    file.write_bytes(torn(whole))

    with kept_rows(folder) as kept:
        assert kept.rows.keys() == {4, 2}
        kept.add([0], [row("three")])

    assert file.read_bytes() == whole


def test_nothing_is_left_of_what_is_forgotten(folder: Path, tmp_path: Path) -> None:
    with kept_rows(folder) as kept:
        kept.forget()

    assert list(tmp_path.iterdir()) == []


def test_what_fails_before_a_row_is_done_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model"), kept_rows(tmp_path / ".generate" / "x"):
        raise ValueError("no model")

    assert list((tmp_path / ".generate").glob("*")) == []


def test_two_processes_do_not_keep_the_same_rows(folder: Path) -> None:
    with (
        kept_rows(folder),
        pytest.raises(TrackingError, match="is in use by") as raised,
        kept_rows(folder),
    ):
        pass

    assert "its predictions are the same" in raised.value.hint
