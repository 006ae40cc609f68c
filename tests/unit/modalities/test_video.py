import struct
import wave
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, ModelInput, Signal, Span
from mmrun.modalities.video import VideoModality
from tests.unit.modalities.videos import (
    HEIGHT,
    PIXELS,
    WIDTH,
    moving,
    write_processor,
    write_video,
)

UPRIGHT = (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
QUARTER_TURN = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)


def modality(*, size: int = PIXELS, extracted: bool = True, **settings: Any) -> VideoModality:
    return VideoModality(settings, model=ModelInput(feature_size=size, extracted=extracted))


def load(path: Path, span: Span | None = None, **settings: Any) -> Array:
    loader = modality(**settings)
    signal = Signal(text=str(path), span=span or Span())
    loaded = loader.load(signal)
    assert loader.length(signal) == len(loaded)
    return loaded


# What multimodalhugs 0.5.4 makes of the same files with the same processor: the number of frames,
# the first and the last values, the sum and the sum of the absolute values.
FACTS = [
    pytest.param(
        25, 20, {}, Span(),
        20, [1.098226, 1.419391], [0.354169, 0.339949], 10223.656, 53527.136, id="all",
    ),
    pytest.param(
        25, 20, {}, Span(start=210, end=615),
        11, [-1.514892, -1.544089], [-0.086653, -0.043993], 5259.906, 29428.998,
        id="a span in milliseconds",
    ),
    pytest.param(
        Fraction(30000, 1001), 30, {}, Span(start=230, end=590),
        11, [-0.930955, -1.368908], [0.59591, 0.55325], 5481.999, 29404.672,
        id="an odd rate",
    ),
    pytest.param(
        25, 20, {"signal_start_end_unit": "frames", "skip_frames_stride": 2}, Span(start=3, end=9),
        3, [-0.916357, -0.60979], [-1.352239, -1.366459], 1490.692, 8079.297,
        id="a span in frames, every second",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "frames", "settings", "span", "count", "first", "last", "total", "size"), FACTS
)
def test_values_equal_those_of_multimodalhugs(  # noqa: PLR0917 (facts, in columns)
    tmp_path: Path,
    rate: Fraction | int,
    frames: int,
    settings: dict[str, Any],
    span: Span,
    count: int,
    first: list[float],
    last: list[float],
    total: float,
    size: float,
) -> None:
    path = write_video(tmp_path / "a.mkv", moving(frames), rate=rate)
    processor = write_processor(tmp_path / "processor")

    values = load(path, span, custom_preprocessor_path=str(processor), **settings)

    assert values.shape == (count, 3, 32, 32)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0].ravel()[:2], first, atol=1e-5)
    np.testing.assert_allclose(values[-1].ravel()[-2:], last, atol=1e-5)
    assert values.sum(dtype=np.float64) == pytest.approx(total, abs=1e-2)
    assert np.abs(values).sum(dtype=np.float64) == pytest.approx(size, abs=1e-2)


def test_without_a_processor_pixels_are_bytes_in_red_green_blue(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(3))

    values = load(path)

    np.testing.assert_array_equal(values, np.stack(moving(3)).transpose(0, 3, 1, 2))


def test_without_a_feature_extractor_a_frame_is_one_row(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(3))

    rows = load(path, extracted=False)

    np.testing.assert_array_equal(rows, load(path).reshape(3, -1))


def test_mean_and_std_are_of_pixels_from_0_to_1(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(2))

    values = load(path, mean=[0.5, 0.5, 0.5], std=[0.25, 0.5, 1.0])

    expected = (load(path) / 255 - 0.5) / np.array([0.25, 0.5, 1.0]).reshape(3, 1, 1)
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_grey_is_one_channel(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(2))

    values = load(path, channels=1)

    red, green, blue = load(path).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(values[:, 0], 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        pytest.param({"width": 16, "height": 8}, (8, 16), id="both"),
        pytest.param({"width": WIDTH // 2}, (HEIGHT // 2, WIDTH // 2), id="the height follows"),
        pytest.param({"height": HEIGHT // 2}, (HEIGHT // 2, WIDTH // 2), id="the width follows"),
    ],
)
def test_frames_may_be_resized(
    tmp_path: Path, size: dict[str, Any], shape: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mkv", moving(2))

    assert load(path, **size).shape[2:] == shape


def test_a_video_that_is_to_be_turned_is_turned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(1), lossless=False)
    lying = load(path)
    track, upright = path.read_bytes().index(b"tkhd"), struct.pack(">9i", *UPRIGHT)
    content = path.read_bytes()
    at = content.index(upright, track)
    path.write_bytes(content[:at] + struct.pack(">9i", *QUARTER_TURN) + content[at + 36 :])

    turned = load(path)

    np.testing.assert_array_equal(turned, np.rot90(lying, -1, axes=(2, 3)))


def test_threads_load_the_same_file_at_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(20), lossless=False)
    loader, expected = modality(), load(path, Span(start=400))

    with ThreadPoolExecutor(4) as pool:
        signals = [Signal(text=str(path), span=Span(start=400))] * 8
        loaded = list(pool.map(loader.load, signals))

    assert all(np.array_equal(one, expected) for one in loaded)


def test_the_length_needs_no_frame_that_can_be_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving(20), lossless=False)
    content = path.read_bytes()
    begin, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:begin] + b"\xff" * (end - begin) + content[end:])

    signal = Signal(text=str(path), span=Span(start=80, end=310))

    assert modality(skip_frames_stride=2).length(signal) == 3


def test_a_file_of_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))

    with pytest.raises(DataError, match=r"sound\.wav has no video stream"):
        modality().length(Signal(text=str(path)))


def test_a_file_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [])

    with pytest.raises(DataError, match="has 0 frames"):
        modality().length(Signal(text=str(path)))


def test_another_number_of_values_is_refused_by_the_head_of_the_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving(1))

    with pytest.raises(DataError, match=rf"has {PIXELS} values a frame .* model\.feat_dim is 9"):
        modality(size=9, extracted=False).length(Signal(text=str(path)))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param({"mean": [0.5] * 3}, "mean and std are given together", id="no std"),
        pytest.param({"mean": [0.5], "std": [0.5]}, "mean has 1 values", id="one of three"),
        pytest.param({"join_chw": True}, "takes whole frames", id="joined for an extractor"),
        pytest.param({"widht": 9}, "did you mean 'width'", id="misspelt"),
        pytest.param(
            {"custom_preprocessor_path": "x", "width": 9}, "the processor decides", id="two sizes"
        ),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        modality(**settings)


def test_settings_of_multimodalhugs_that_mean_nothing_here_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    modality(use_cache=True, io_max_retries=3)

    assert "modality_kwargs.use_cache: without effect: data.cache" in caplog.text
