import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmrun.errors import DataError
from mmrun.modalities.base import Span, Unit
from mmrun.modalities.clips import Clip, read_clip
from tests.unit.modalities.videos import moving, write_video

EVEN = [40 * number for number in range(10)]
UNEVEN = [0, 30, 60, 160, 190, 220, 320, 350, 380, 480]


def clip(times_ms: list[int], *, fps: float = 25.0) -> Clip:
    return Clip(
        path=Path("a.mp4"),
        width=8,
        height=8,
        total=len(times_ms),
        times=np.array(times_ms, dtype=np.int64) + 7,  # the first need not be shown at 0
        time_base=Fraction(1, 1000),
        fps=fps,
    )


def chosen(of: Clip, span: Span, *, unit: Unit = "milliseconds", stride: int = 1) -> list[int]:
    return list(of.frames(span, unit=unit, stride=stride))


@pytest.mark.parametrize(
    ("span", "frames"),
    [
        pytest.param(Span(), list(range(10)), id="all"),
        pytest.param(Span(start=80, end=160), [2, 3, 4], id="one that begins at the end counts"),
        pytest.param(Span(start=99, end=159), [2, 3], id="nearer to the one before"),
        pytest.param(Span(start=100, end=159), [3], id="half way, the next"),
        pytest.param(Span(start=45, end=50), [1], id="within a frame"),
        pytest.param(Span(start=395), [9], id="in the last frame"),
        pytest.param(Span(start=330, end=440), [8, 9], id="an end one frame too late is rounding"),
    ],
)
def test_milliseconds_choose_frames_by_when_they_begin(span: Span, frames: list[int]) -> None:
    assert chosen(clip(EVEN), span) == frames


def test_frames_need_not_be_evenly_apart() -> None:
    assert chosen(clip(UNEVEN, fps=20.0), Span(start=155, end=330)) == [3, 4, 5, 6]


def test_a_frame_that_is_shown_for_long_is_nearer_than_one_that_is_not_yet_shown() -> None:
    paused = clip([0, 40, 500, 540, 580, 620])

    assert chosen(paused, Span(start=100, end=200)) == [1]


def test_a_file_without_times_is_taken_at_its_rate() -> None:
    untimed = Clip(
        path=Path("a.h264"),
        width=8,
        height=8,
        total=10,
        times=None,
        time_base=Fraction(1, 1000),
        fps=25.0,
    )

    assert chosen(untimed, Span(start=80, end=160)) == [2, 3, 4]


def test_a_span_may_count_frames() -> None:
    assert chosen(clip(EVEN), Span(start=3, end=9), unit="frames", stride=2) == [3, 5, 7]


@pytest.mark.parametrize(
    ("span", "unit", "problem"),
    [
        pytest.param(Span(start=400), "milliseconds", r"has 400 ms \(10 frames\)", id="start"),
        pytest.param(Span(end=441), "milliseconds", "the span is 0 to 441 mill", id="end"),
        pytest.param(Span(start=10), "frames", "has 10 frames, the span is 10 to", id="frames"),
    ],
)
def test_a_span_beyond_the_file_is_refused(span: Span, unit: Unit, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        chosen(clip(EVEN), span, unit=unit)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts"])
def test_a_part_is_that_part_of_the_whole_in_every_container(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, moving(24), lossless=False)
    read = read_clip(path, timed=True)
    whole = [picture.to_ndarray(format="rgb24") for picture in read.pictures(range(24))]

    part = [picture.to_ndarray(format="rgb24") for picture in read.pictures(range(13, 23, 3))]

    assert read.total == 24
    np.testing.assert_array_equal(part, whole[13:23:3])


def test_the_times_of_uneven_frames_are_found(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(10), lossless=False, times_ms=UNEVEN)

    read = read_clip(path, timed=True)

    assert chosen(read, Span(start=155, end=330)) == [3, 4, 5, 6]


def test_only_the_span_is_decoded_from_the_key_frame_before_it_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.mp4", moving(200, height=16, width=16), lossless=False)
    caplog.set_level(logging.DEBUG, logger="mmrun")

    list(read_clip(path, timed=True).pictures(range(155, 160)))

    assert caplog.messages == [f"{path}: decoded 10 frames for 5"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*gone\.mp4"):
        read_clip(tmp_path / "gone.mp4", timed=False)


@pytest.mark.parametrize("content", [b"", b"no video" * 99])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"broken\.mp4 cannot be read: it is not a whole video"):
        read_clip(path, timed=False)


@pytest.mark.parametrize(
    ("name", "index_first", "problem"),
    [
        pytest.param("a.mp4", False, "cannot be read: it is not a whole video", id="mp4"),
        pytest.param("a.mp4", True, "cannot be read: it is not a whole video", id="mp4, streamed"),
        pytest.param("a.avi", False, "cannot be read: it is not a whole video", id="avi"),
    ],
)
def test_a_file_that_is_cut_off_is_refused(
    tmp_path: Path, name: str, index_first: bool, problem: str
) -> None:
    path = write_video(tmp_path / name, moving(20), lossless=False, index_first=index_first)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(DataError, match=problem):
        read = read_clip(path, timed=False)
        list(read.pictures(range(read.total)))


def test_frames_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(20), lossless=False)
    content = path.read_bytes()
    middle = content.index(b"mdat") + len(content) // 3
    path.write_bytes(content[:middle] + b"\xff" * 400 + content[middle + 400 :])

    with pytest.raises(DataError, match="cannot be read"):
        list(read_clip(path, timed=False).pictures(range(20)))


def test_a_codec_that_is_not_known_is_said(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(2))
    path.write_bytes(path.read_bytes().replace(b"V_FFV1", b"V_NONE"))

    with pytest.raises(DataError, match=r"a\.mkv cannot be read: FFmpeg has no decoder for it"):
        read_clip(path, timed=False)


def spoilt(path: Path, *, frame: int) -> Path:
    """Write over all but the head of a frame, so that the decoder makes up its picture."""
    with av.open(str(path)) as container:
        packets: list[Any] = [packet for packet in container.demux(video=0) if packet.size]
    packet = sorted(packets, key=lambda one: one.pts)[frame]
    content = bytearray(path.read_bytes())
    content[packet.pos + 8 : packet.pos + packet.size] = b"\xff" * (packet.size - 8)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "wanted", [range(20), range(12, 14), range(15, 20, 2)], ids=["all", "it", "after it"]
)
def test_a_picture_that_the_decoder_made_up_is_refused(tmp_path: Path, wanted: range) -> None:
    whole = write_video(tmp_path / "a.mp4", moving(40), lossless=False, key_frame_every=10)
    read = read_clip(spoilt(whole, frame=12), timed=True)

    with pytest.raises(DataError, match="is damaged: the decoder made up a part of frame 1"):
        list(read.pictures(wanted))


def test_damage_before_the_key_frame_of_a_span_does_not_matter(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", moving(40), lossless=False, key_frame_every=10)
    read = read_clip(spoilt(whole, frame=12), timed=True)

    assert len(list(read.pictures(range(20, 40)))) == 20


def test_frames_that_the_index_has_and_the_file_has_not_are_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(20), lossless=False)
    promised = replace(read_clip(path, timed=False), total=25)

    with pytest.raises(DataError, match="is damaged: of 25 frames, 20 can be decoded"):
        list(promised.pictures(range(25)))


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(3))
    read_clip(path, timed=False)

    write_video(path, moving(5))

    assert read_clip(path, timed=False).total == 5
