from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Span
from mmrun.modalities.image import ImageModality

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def modality(*, size: int = 12, extracted: bool = False, **settings: Any) -> ImageModality:
    return ImageModality(settings, feature_size=size, extracted=extracted)


def picture(folder: Path, columns: list[tuple[int, int, int]], *, name: str = "a.png") -> Path:
    """Store an image two pixels high."""
    path = folder / name
    Image.fromarray(np.array([columns, columns], dtype=np.uint8)).save(path)
    return path


def test_strips_go_from_left_to_right_and_colours_are_red_green_blue(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED, GREEN, BLUE])

    strips = modality(size=6).load(path, span=Span())

    np.testing.assert_array_equal(
        strips, [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    )


def test_the_last_strip_is_filled_up_with_zeros(tmp_path: Path) -> None:
    path = picture(tmp_path, [(255, 255, 255)] * 3)

    strips = modality(size=4, channels=1, strip_width=2).load(path, span=Span())

    np.testing.assert_array_equal(strips, [[1, 1, 1, 1], [1, 0, 1, 0]])


def test_the_width_of_a_strip_follows_from_the_feature_size(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED] * 6)

    assert modality(size=3 * 2 * 3).load(path, span=Span()).shape == (2, 18)


def test_strips_of_another_size_than_the_model_takes_are_refused(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED] * 6)

    with pytest.raises(DataError, match=r"2 high and 2 wide have 12 values, model\.feat_dim is 10"):
        modality(size=10, strip_width=2).load(path, span=Span())


def test_pixels_are_scaled_before_mean_and_deviation(tmp_path: Path) -> None:
    path = picture(tmp_path, [(255, 0, 51)])

    loaded = modality(extracted=True, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]).load(
        path, span=Span()
    )

    assert loaded.shape == (1, 3, 2, 1)
    np.testing.assert_allclose(loaded[0, :, 0, 0], [1, -1, -0.6], rtol=1e-6)


def test_normalizing_can_be_switched_off(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED])

    loaded = modality(extracted=True, normalize_image=False, mean=[0.5] * 3, std=[0.5] * 3).load(
        path, span=Span()
    )

    np.testing.assert_array_equal(loaded[0, :, 0, 0], [1, 0, 0])


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        pytest.param({"width": 5, "height": 7}, (1, 3, 7, 5), id="both"),
        pytest.param({"height": 4}, (1, 3, 4, 12), id="the width follows"),
        pytest.param({"width": 3}, (1, 3, 1, 3), id="the height follows"),
    ],
)
@pytest.mark.parametrize("kind", ["a.png", "a.npy"])
def test_images_are_brought_to_a_size(
    tmp_path: Path, settings: dict[str, int], shape: tuple[int, ...], kind: str
) -> None:
    path = tmp_path / kind
    pixels = np.full((2, 6, 3), 128, dtype=np.uint8)
    if kind == "a.npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)

    loaded = modality(extracted=True, **settings).load(path, span=Span())

    assert loaded.shape == shape
    np.testing.assert_allclose(loaded, 128 / 255, rtol=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.jpg"])
def test_common_formats_are_read(tmp_path: Path, name: str) -> None:
    path = picture(tmp_path, [(255, 255, 255)] * 2, name=name)

    np.testing.assert_allclose(modality(size=6).load(path, span=Span()), 1, atol=0.01)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.full((2, 2), 255, dtype=np.uint8), id="grey bytes"),
        pytest.param(np.ones((2, 2, 3), dtype=np.float32), id="channels last"),
        pytest.param(np.ones((3, 2, 2), dtype=np.float64), id="channels first"),
    ],
)
def test_arrays_are_read_as_images(tmp_path: Path, array: "np.ndarray[Any, Any]") -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)

    np.testing.assert_array_equal(modality().load(path, span=Span()), np.ones((1, 12)))


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((2, 1), 65535 // 5, dtype=np.uint16)).save(path)

    loaded = modality(size=2, channels=1).load(path, span=Span())

    np.testing.assert_allclose(loaded, 0.2, rtol=1e-4)


def test_values_that_are_no_shares_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.full((2, 2), 200.0))

    with pytest.raises(DataError, match="outside 0 to 1"):
        modality().load(path, span=Span())


@pytest.mark.parametrize("cut", [0, 20, 45])
def test_an_image_that_was_cut_off_is_named(tmp_path: Path, cut: int) -> None:
    path = picture(tmp_path, [RED, GREEN, BLUE])
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        modality(size=6).load(path, span=Span())


def test_a_missing_image_is_not_taken_for_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        modality().load(tmp_path / "hello world", span=Span())


def test_an_image_has_no_span(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED])

    with pytest.raises(DataError, match="has no span"):
        modality(size=6).load(path, span=Span(end=3))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param({"mean": [0.5] * 3}, "mean and std are given together", id="mean alone"),
        pytest.param({"normalize_image": True}, "needs mean and std", id="nothing to apply"),
        pytest.param({"mean": [0.5], "std": [0.5]}, "mean has 1 values", id="too few"),
        pytest.param({"channels": 2}, r"modality_kwargs\.channels", id="two channels"),
        pytest.param({"font_path": "a.ttf"}, "font_path: is not a setting", id="text as images"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        modality(**settings)


def test_a_feature_extractor_takes_no_strips() -> None:
    with pytest.raises(ConfigError, match="strip_width"):
        modality(extracted=True, strip_width=2)
