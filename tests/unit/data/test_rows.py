import logging

import numpy as np
import pytest

from mmrun.errors import DataError
from tests.unit.data.project import Project


def outputs(rows: list[dict[str, object]]) -> list[object]:
    return [row["output"] for row in rows]


def test_every_missing_file_is_named_with_its_row(project: Project) -> None:
    project.add("four").unlink()
    project.add("two")
    project.add("seven").unlink()
    data = project.data()

    with pytest.raises(DataError, match=r"train\.tsv:2: signal: there is no file") as caught:
        project.rows(data)

    assert len(caught.value.more) == 1
    assert "train.tsv:4: signal:" in caught.value.more[0]


@pytest.mark.parametrize(
    ("limit", "left", "reason"),
    [
        pytest.param(
            {"max_frames": 2}, ["two"], "longer than data.max_frames (2)", id="too many frames"
        ),
        pytest.param(
            {"min_frames": 2}, ["four four"], "shorter than data.min_frames (2)", id="too few"
        ),
        pytest.param(
            {"max_length": 2}, ["two"], "text of more than data.max_length (2) tokens", id="text"
        ),
    ],
)
def test_rows_beyond_a_limit_are_left_out_and_counted_with_the_reason(
    project: Project,
    caplog: pytest.LogCaptureFixture,
    limit: dict[str, int],
    left: list[str],
    reason: str,
) -> None:
    project.add("four four", frames=3)
    project.add("two", frames=1)

    with caplog.at_level(logging.WARNING):
        rows = project.rows(project.data(**limit))

    assert outputs(rows) == left
    assert f"train.tsv: 1 of 2 rows: {reason}: left out" in caplog.text


def test_limits_that_leave_nothing_are_refused_with_all_reasons(project: Project) -> None:
    project.add("four", frames=3)
    project.add("two", frames=1)
    data = project.data(max_frames=2, min_frames=2)

    with pytest.raises(DataError, match=r"no row is left: 1 of 2 rows: longer .*, 1 of 2 rows: sh"):
        project.rows(data)


def test_rows_that_cannot_be_read_are_left_out_where_that_is_wished(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project.add("four").unlink()
    project.add("two")

    with caplog.at_level(logging.WARNING):
        rows = project.rows(project.data(on_bad_sample="skip"))

    assert outputs(rows) == ["two"]
    assert "left out: " in caplog.text
    assert "train.tsv:2: signal: there is no file" in caplog.text
    assert "1 of 2 rows: cannot be read: left out" in caplog.text


def test_what_is_wrong_inside_a_file_is_found_when_it_is_read_to_its_end(project: Project) -> None:
    path = project.add("four", frames=3)
    np.save(path, np.full((3, 2), np.nan, dtype=np.float32))
    data = project.data()

    with pytest.raises(DataError, match=r"train\.tsv:2: signal: .*NaN"):
        project.rows(data, whole=True)


def test_a_row_knows_how_long_it_is(project: Project) -> None:
    project.add("four", frames=3)
    project.add("two", frames=5, span="1\t4")

    assert [row["length"] for row in project.rows(project.data())] == [3, 3]


def test_which_rows_there_are_does_not_depend_on_who_looked_inside(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    path = project.add("four", frames=3)
    project.add("two")
    np.save(path, np.full((3, 2), np.nan, dtype=np.float32))
    data = project.data(on_bad_sample="skip")

    with caplog.at_level(logging.WARNING):
        rows = project.rows(data, whole=True)

    assert rows == project.rows(data)
    assert "will not count: " in caplog.text
    assert "train.tsv:2: signal: " in caplog.text
