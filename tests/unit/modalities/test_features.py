import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, ModelInput, Signal, Span
from mmrun.modalities.features import FeaturesModality

SIZE = 3
WHOLE = Span()


def modality(**settings: Any) -> FeaturesModality:
    return FeaturesModality(settings, model=ModelInput(feature_size=SIZE))


def stored(folder: Path, array: "np.ndarray[Any, Any]") -> Path:
    path = folder / "signal.npy"
    np.save(path, array)
    return path


def signal(path: Path, span: Span = WHOLE) -> Signal:
    return Signal(text=path.name, folder=path.parent, span=span)


def frames(count: int) -> Array:
    return np.arange(count * SIZE, dtype=np.float32).reshape(count, SIZE)


def test_frames_come_as_they_are_stored(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(4))

    np.testing.assert_array_equal(modality().load(signal(path)), frames(4))


def as_second_version(path: Path, array: Array) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))


WRITERS: dict[str, Callable[[Path, Array], object]] = {
    "a.npy": np.save,
    "a.npz": lambda path, array: np.savez(path, only=array),
    "small.npz": lambda path, array: np.savez_compressed(path, only=array),
    "a.pt": lambda path, array: torch.save(torch.from_numpy(array), path),
    "dict.pt": lambda path, array: torch.save({"only": torch.from_numpy(array)}, path),
    "a.safetensors": lambda path, array: save_file({"only": torch.from_numpy(array)}, path),
    "second.npy": as_second_version,
    "columns.npy": lambda path, array: np.save(path, np.asfortranarray(array)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_all_kinds_of_files_hold_the_same_frames(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, frames(7))
    loader = modality(skip_frames_stride=2)

    loaded = loader.load(signal(path, Span(start=1, end=6)))

    np.testing.assert_array_equal(loaded, frames(7)[[1, 3, 5]])
    assert loaded.dtype == np.float32
    assert loader.length(signal(path, Span(start=1, end=6))) == 3


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("ask", ["load", "length"])
def test_a_file_that_is_cut_off_is_named(tmp_path: Path, name: str, ask: str) -> None:
    path = tmp_path / name
    WRITERS[name](path, frames(200))
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(DataError, match=f"{name} cannot be read: it is not a whole"):
        getattr(modality(), ask)(signal(path))


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.safetensors"])
def test_one_of_several_arrays_is_named(tmp_path: Path, name: str) -> None:
    path = several(tmp_path / name)

    loaded = modality(array_key="hand").load(signal(path))

    np.testing.assert_array_equal(loaded, frames(2))


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "a.safetensors"])
@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param({}, "holds face, hand", id="not chosen"),
        pytest.param({"array_key": "foot"}, "no array 'foot', but face, hand", id="not there"),
    ],
)
def test_several_arrays_are_listed(
    tmp_path: Path, name: str, settings: dict[str, Any], problem: str
) -> None:
    path = several(tmp_path / name)

    with pytest.raises(DataError, match=problem):
        modality(**settings).length(signal(path))


def several(path: Path) -> Path:
    arrays = {"hand": torch.from_numpy(frames(2)), "face": torch.zeros(2, 2)}
    if path.suffix == ".npz":
        np.savez(path, hand=arrays["hand"].numpy(), face=arrays["face"].numpy())
    elif path.suffix == ".pt":
        torch.save(arrays, path)
    else:
        save_file(arrays, path)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.safetensors"])
def test_of_a_long_file_only_the_span_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    count = 2**29  # 6 GiB, of which the file system stores only what is written
    if name == "a.npy":
        with path.open("wb") as file:
            head = {"descr": "<f4", "fortran_order": False, "shape": (count, SIZE)}
            np.lib.format.write_array_header_1_0(file, head)
    else:
        shape = (
            f'{{"only":{{"dtype":"F32","shape":[{count},{SIZE}],"data_offsets":[0,{count * 12}]}}}}'
        )
        path.write_bytes(len(shape).to_bytes(8, "little") + shape.encode())
    os.truncate(path, path.stat().st_size + count * SIZE * 4)

    loaded = modality().load(signal(path, Span(start=count - 5, end=count - 2)))

    np.testing.assert_array_equal(loaded, np.zeros((3, SIZE)))
    assert modality().length(signal(path)) == count


def test_a_span_may_be_in_milliseconds(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(50))
    timed = modality(signal_start_end_unit="milliseconds", fps=25)

    loaded = timed.load(signal(path, Span(start=400, end=800)))

    np.testing.assert_array_equal(loaded, frames(50)[10:20])


def test_frames_a_second_without_milliseconds_are_refused() -> None:
    with pytest.raises(ConfigError, match="fps is for spans in milliseconds"):
        modality(fps=25)


@pytest.mark.parametrize("name", ["a.npy", "a.pt"])
def test_the_name_of_an_array_for_a_file_without_names_is_refused(
    tmp_path: Path, name: str
) -> None:
    WRITERS[name](tmp_path / name, frames(2))

    with pytest.raises(DataError, match=r"holds one array without a name, array_key is 'hand'"):
        modality(array_key="hand").length(signal(tmp_path / name))


def test_milliseconds_need_the_frames_a_second() -> None:
    with pytest.raises(ConfigError, match="milliseconds need fps"):
        modality(signal_start_end_unit="milliseconds")


def test_the_numbers_are_those_of_multimodalhugs(tmp_path: Path) -> None:
    values = np.random.default_rng(7).standard_normal((SIZE, 9)).astype(np.float16)
    path = stored(tmp_path, values)

    loaded = modality(skip_frames_stride=2, temporal_dimension_position=1).load(signal(path))

    assert loaded.shape == (5, 3)
    # What multimodalhugs 0.5.4 made of the same file.
    np.testing.assert_allclose(loaded[0], [1.2302399e-03, -6.2060547e-01, -1.9013672e00], atol=1e-5)
    np.testing.assert_allclose(loaded[-1], [-0.4921875, -0.45751953, -2.5175781], atol=1e-5)
    assert loaded.sum(dtype=float) == pytest.approx(-9.487691879272461, abs=1e-5)


def test_half_precision_of_torch_becomes_float32(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.from_numpy(frames(2)).to(torch.bfloat16), path)

    np.testing.assert_array_equal(modality().load(signal(path)), frames(2))


def test_a_torch_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(Path("a"), path)

    with pytest.raises(DataError, match=r"a\.pt cannot be read"):
        modality().load(signal(path))


def test_a_cache_of_its_own_is_said_to_be_without_effect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    modality(use_cache=True)

    assert "use_cache: without effect: data.cache decides" in caplog.text


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint8, ">f4"])
def test_numbers_of_any_kind_become_float32(tmp_path: Path, kind: type) -> None:
    path = stored(tmp_path, frames(2).astype(kind))

    loaded = modality().load(signal(path))

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

    np.testing.assert_array_equal(modality().load(signal(path, span)), frames(5)[kept])


@pytest.mark.parametrize("span", [Span(start=5), Span(start=1, end=6)])
def test_a_span_beyond_the_file_is_refused(tmp_path: Path, span: Span) -> None:
    path = stored(tmp_path, frames(5))

    with pytest.raises(DataError, match="has 5 frames"):
        modality().load(signal(path, span))


def test_a_stride_keeps_every_nth_frame(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(5))

    kept = modality(skip_frames_stride=2).load(signal(path, Span(start=1)))

    np.testing.assert_array_equal(kept, frames(5)[[1, 3]])


def test_time_may_be_the_second_axis(tmp_path: Path) -> None:
    path = stored(tmp_path, frames(4).T)

    loaded = modality(temporal_dimension_position=1).load(signal(path))

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
        modality().load(signal(path))


@pytest.mark.parametrize("content", [b"", b"not numpy", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.npy"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"broken\.npy cannot be read"):
        modality().load(signal(path))


@pytest.mark.parametrize("ask", ["length", "load"])
def test_a_damaged_head_of_an_array_is_named(tmp_path: Path, ask: str) -> None:
    path = stored(tmp_path, frames(2))
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))

    with pytest.raises(DataError, match=r"signal\.npy cannot be read"):
        getattr(modality(), ask)(signal(path))


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize(
    "tensor",
    [
        pytest.param(
            lambda: torch.quantize_per_tensor(torch.zeros(2, SIZE), 0.1, 0, torch.quint8),
            id="quantized",
        ),
        pytest.param(lambda: torch.zeros(2, SIZE, device="meta"), id="without values"),
    ],
)
def test_a_tensor_without_plain_numbers_is_refused(
    tmp_path: Path, tensor: Callable[[], torch.Tensor]
) -> None:
    torch.save(tensor(), tmp_path / "a.pt")

    with pytest.raises(DataError, match="does not hold numbers"):
        modality().length(signal(tmp_path / "a.pt"))


def test_complex_numbers_are_refused_in_safetensors_too(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, SIZE, dtype=torch.complex64)}, tmp_path / "a.safetensors")

    with pytest.raises(DataError, match="does not hold numbers"):
        modality().length(signal(tmp_path / "a.safetensors"))


def test_a_torch_file_of_another_object_is_told_from_one_that_is_cut_off(tmp_path: Path) -> None:
    torch.save(frames(2), tmp_path / "a.pt")

    with pytest.raises(DataError, match="something else than tensors") as caught:
        modality().length(signal(tmp_path / "a.pt"))

    assert "torch.from_numpy" in caught.value.hint


def test_a_torch_file_of_the_old_format_is_called_so(tmp_path: Path) -> None:
    old = {"_use_new_zipfile_serialization": False}
    torch.save(torch.from_numpy(frames(2)), tmp_path / "a.pt", **old)

    with pytest.raises(DataError, match=r"a\.pt cannot be read: it is a pickle"):
        modality().length(signal(tmp_path / "a.pt"))


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "signal.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(DataError, match="does not hold numbers"):
        modality().load(signal(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*gone\.npy"):
        modality().load(signal(tmp_path / "gone.npy"))


def test_extracted_features_need_no_extractor() -> None:
    with pytest.raises(ConfigError, match="feature_extractor_type"):
        FeaturesModality({}, model=ModelInput(feature_size=SIZE, extracted=True))
