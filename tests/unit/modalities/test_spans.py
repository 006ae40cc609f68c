from pathlib import Path
from typing import Any

import pytest

from mmrun.errors import DataError
from mmrun.modalities.base import Span
from mmrun.modalities.spans import frames_of_span

FILE = Path("a.pose")


def chosen(span: Span, **given: Any) -> list[int]:
    return list(frames_of_span(span, **{"total": 10, "path": FILE, **given}))


@pytest.mark.parametrize("unit", ["frames", "milliseconds"])
def test_no_span_means_the_whole_file(unit: str) -> None:
    assert chosen(Span(), unit=unit) == list(range(10))


@pytest.mark.parametrize(
    ("span", "frames"),
    [
        pytest.param(Span(start=7), [7, 8, 9], id="to the end of the file"),
        pytest.param(Span(start=1, end=3), [1, 2], id="the end is exclusive"),
        pytest.param(Span(end=10), list(range(10)), id="the end may be the last"),
    ],
)
def test_a_span_may_count_frames(span: Span, frames: list[int]) -> None:
    assert chosen(span) == frames


@pytest.mark.parametrize(
    ("span", "frames"),
    [
        pytest.param(Span(start=40, end=120), [1, 2], id="on the borders of frames"),
        pytest.param(Span(start=50, end=130), [1, 2, 3], id="frames that are cut count"),
        pytest.param(Span(start=330), [8, 9], id="to the end of the file"),
        pytest.param(Span(start=330, end=440), [8, 9], id="an end one frame too late is rounding"),
    ],
)
def test_a_span_may_count_milliseconds(span: Span, frames: list[int]) -> None:
    assert chosen(span, unit="milliseconds", fps=25.0) == frames


@pytest.mark.parametrize("fps", [25.0, 50.0, 100.0])
def test_a_span_on_the_borders_of_frames_has_no_frame_too_many(fps: float) -> None:
    period = int(1000 / fps)

    for first in range(1, 1500):
        span = Span(start=first * period, end=(first + 10) * period)
        assert chosen(span, unit="milliseconds", fps=fps, total=2000)[0] == first
        assert len(chosen(span, unit="milliseconds", fps=fps, total=2000)) == 10


def test_a_stride_begins_at_the_start_of_the_span() -> None:
    assert chosen(Span(start=1, end=6), stride=2) == [1, 3, 5]


@pytest.mark.parametrize(
    ("span", "unit", "problem"),
    [
        pytest.param(Span(start=10), "frames", "has 10 frames, the span is 10 to", id="start"),
        pytest.param(Span(end=11), "frames", "the span is 0 to 11 frames", id="end"),
        pytest.param(Span(start=400), "milliseconds", r"has 400 ms \(10 frames\)", id="start, ms"),
        pytest.param(Span(end=441), "milliseconds", "the span is 0 to 441 millis", id="end, ms"),
    ],
)
def test_a_span_beyond_the_file_is_refused(span: Span, unit: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        chosen(span, unit=unit, fps=25.0)


def test_the_error_names_the_other_unit() -> None:
    with pytest.raises(DataError) as caught:
        chosen(Span(end=400))

    assert "signal_start_end_unit: milliseconds" in caught.value.hint


@pytest.mark.parametrize("fps", [None, 0.0, float("nan"), float("inf")])
def test_milliseconds_need_a_frame_rate(fps: float | None) -> None:
    with pytest.raises(DataError, match="how many frames a second"):
        chosen(Span(end=40), unit="milliseconds", fps=fps)


def test_a_file_without_a_frame_is_refused() -> None:
    with pytest.raises(DataError, match="has 0 frames"):
        chosen(Span(), total=0)
