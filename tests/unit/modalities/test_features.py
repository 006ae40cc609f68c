from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, Span
from mmrun.modalities.features import FeaturesModality

SIZE = 3


def modality(**settings: Any) -> FeaturesModality:
    return FeaturesModality(settings, feature_size=SIZE, extracted=False)


def stored(folder: Path, array: "np.ndarray[Any, Any]") -> Path:
    path = folder / "signal.npy"
    np.save(path, array)
    return path


def frames(count: int) -> Array:
    return np.arange(count * SIZE, dtype=np.float32).reshape(count, SIZE)


def test_frames_come_as_they_are_stored(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(4))

    np.testing.assert_array_equal(modality().load(path, span=Span()), frames(4))


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint8])
def test_numbers_of_any_kind_become_float32(tmp_path: Path, kind: type) -> None:
    path = stored(tmp_path, frames(2).astype(kind))

    loaded = modality().load(path, span=Span())

    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, frames(2))


@pytest.mark.parametrize(
    ("span", "kept"),
    [
        pytest.param(Span(start=1), [1, 2, 3, 4], id="from a frame on"),
        pytest.param(Span(start=1, end=3), [1, 2], id="the end is exclusive"),
        pytest.param(Span(end=5), [0, 1, 2, 3, 4], id="the end may be the last"),
    ],
)
def test_a_span_counts_frames(tmp_path: Path, span: Span, kept: list[int]) -> None:
    path = stored(tmp_path, frames(5))

    np.testing.assert_array_equal(modality().load(path, span=span), frames(5)[kept])


@pytest.mark.parametrize("span", [Span(start=5), Span(start=1, end=6)])
def test_a_span_beyond_the_file_is_refused(tmp_path: Path, span: Span) -> None:
    path = stored(tmp_path, frames(5))

    with pytest.raises(DataError, match="has 5 frames"):
        modality().load(path, span=span)


def test_a_stride_keeps_every_nth_frame(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(5))

    kept = modality(skip_frames_stride=2).load(path, span=Span(start=1))

    np.testing.assert_array_equal(kept, frames(5)[[1, 3]])


def test_time_may_be_the_second_axis(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(4).T)

    loaded = modality(temporal_dimension_position=1).load(path, span=Span())

    np.testing.assert_array_equal(loaded, frames(4))


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        pytest.param(np.full((2, SIZE), np.nan), "NaN or infinite", id="not a number"),
        pytest.param(np.full((2, SIZE), np.inf), "NaN or infinite", id="infinite"),
        pytest.param(np.zeros((2, 4)), "4 values a frame, model.feat_dim is 3", id="another size"),
        pytest.param(np.zeros(SIZE), r"shape \[3\]", id="one axis"),
        pytest.param(np.zeros((0, SIZE)), "has 0 frames", id="no frame"),
        pytest.param(np.array([["a", "b", "c"]]), "does not hold numbers", id="text"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    tmp_path: Path, array: "np.ndarray[Any, Any]", problem: str
) -> None:
    path = stored(tmp_path, array)

    with pytest.raises(DataError, match=problem):
        modality().load(path, span=Span())


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npy"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"broken\.npy cannot be read"):
        modality().load(path, span=Span())


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "signal.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(DataError, match="cannot be read"):
        modality().load(path, span=Span())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*gone\.npy"):
        modality().load(tmp_path / "gone.npy", span=Span())


def test_what_was_loaded_stays_in_memory(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(2))
    loader = modality()
    first = loader.load(path, span=Span())
    path.unlink()

    assert loader.load(path, span=Span()) is first


def test_without_a_cache_the_file_is_read_again(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(2))
    loader = modality(use_cache=False)
    loader.load(path, span=Span())
    path.unlink()

    with pytest.raises(DataError, match="no file"):
        loader.load(path, span=Span())


def test_extracted_features_need_no_extractor() -> None:
    with pytest.raises(ConfigError, match="feature_extractor_type"):
        FeaturesModality({}, feature_size=SIZE, extracted=True)
