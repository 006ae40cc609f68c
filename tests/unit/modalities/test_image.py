from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import ModelInput, Signal, Span
from mmrun.modalities.image import ImageModality

WHOLE = Span()
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def modality(*, size: int = 12, extracted: bool = False, **settings: Any) -> ImageModality:
    return ImageModality(settings, model=ModelInput(feature_size=size, extracted=extracted))


def signal(path: Path, span: Span = WHOLE) -> Signal:
    return Signal(text=path.name, folder=path.parent, span=span)


def picture(folder: Path, columns: list[tuple[int, int, int]], *, name: str = "a.png") -> Path:
    """Store an image two pixels high."""
    path = folder / name
    Image.fromarray(np.array([columns, columns], dtype=np.uint8)).save(path)
    return path


def test_strips_go_from_left_to_right_and_colours_are_red_green_blue(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED, GREEN, BLUE])

    strips = modality(size=6).load(signal(path))

    np.testing.assert_array_equal(
        strips, [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]]
    )


def test_the_last_strip_is_filled_up_with_zeros(tmp_path: Path) -> None:
    path = picture(tmp_path, [(255, 255, 255)] * 3)

    strips = modality(size=4, channels=1, strip_width=2).load(signal(path))

    np.testing.assert_array_equal(strips, [[1, 1, 1, 1], [1, 0, 1, 0]])


def test_the_width_of_a_strip_follows_from_the_feature_size(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED] * 6)

    assert modality(size=3 * 2 * 3).load(signal(path)).shape == (2, 18)


def test_strips_of_another_size_than_the_model_takes_are_refused(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED] * 6)

    with pytest.raises(DataError, match=r"2 high and 2 wide have 12 values, model\.feat_dim is 10"):
        modality(size=10, strip_width=2).load(signal(path))


def test_pixels_are_scaled_before_mean_and_deviation(tmp_path: Path) -> None:
    path = picture(tmp_path, [(255, 0, 51)])

    loaded = modality(extracted=True, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]).load(signal(path))

    assert loaded.shape == (1, 3, 2, 1)
    np.testing.assert_allclose(loaded[0, :, 0, 0], [1, -1, -0.6], rtol=1e-6)


def test_normalizing_can_be_switched_off(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED])

    loaded = modality(extracted=True, normalize_image=False, mean=[0.5] * 3, std=[0.5] * 3).load(
        signal(path)
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

    loaded = modality(extracted=True, **settings).load(signal(path))

    assert loaded.shape == shape
    np.testing.assert_allclose(loaded, 128 / 255, rtol=1e-5)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.jpg"])
def test_common_formats_are_read(tmp_path: Path, name: str) -> None:
    path = picture(tmp_path, [(255, 255, 255)] * 2, name=name)

    np.testing.assert_allclose(modality(size=6).load(signal(path)), 1, atol=0.01)


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

    np.testing.assert_array_equal(modality().load(signal(path)), np.ones((1, 12)))


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((2, 1), 65535 // 5, dtype=np.uint16)).save(path)

    loaded = modality(size=2, channels=1).load(signal(path))

    np.testing.assert_allclose(loaded, 0.2, rtol=1e-4)


def test_sixteen_bits_of_any_kind_of_file_are_scaled(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n1 2\n65535\n" + np.full(2, 65535 // 5, dtype=">u2").tobytes())

    loaded = modality(size=2, channels=1).load(signal(path))

    np.testing.assert_allclose(loaded, 0.2, rtol=1e-4)


def test_an_image_of_floats_is_of_shares(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((2, 1), 0.2, dtype=np.float32)).save(path)

    loaded = modality(size=2, channels=1).load(signal(path))

    np.testing.assert_allclose(loaded, 0.2, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_an_image_of_numbers_that_are_no_shares_is_refused(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.full((2, 1), 200, dtype=kind)).save(path)

    with pytest.raises(DataError, match=r"a\.tif holds values outside 0 to 1"):
        modality(size=2, channels=1).load(signal(path))


def test_values_that_are_no_shares_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.full((2, 2), 200.0))

    with pytest.raises(DataError, match="outside 0 to 1"):
        modality().load(signal(path))


@pytest.mark.parametrize("cut", [0, 20, 45])
def test_an_image_that_was_cut_off_is_named(tmp_path: Path, cut: int) -> None:
    path = picture(tmp_path, [RED, GREEN, BLUE])
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        modality(size=6).load(signal(path))


def test_a_missing_image_is_not_taken_for_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        modality().load(signal(tmp_path / "hello world"))


def test_an_image_has_no_span(tmp_path: Path) -> None:
    path = picture(tmp_path, [RED])

    with pytest.raises(DataError, match="has no span"):
        modality(size=6).load(signal(path, Span(end=3)))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param({"mean": [0.5] * 3}, "mean and std are given together", id="mean alone"),
        pytest.param({"normalize_image": True}, "needs mean and std", id="nothing to apply"),
        pytest.param({"mean": [0.5], "std": [0.5]}, "mean has 1 values", id="too few"),
        pytest.param({"channels": 2}, r"modality_kwargs\.channels", id="two channels"),
        pytest.param(
            {"mean": "[0.5, a, 1]", "std": [1] * 3}, r"mean\.1: .* number", id="no numbers"
        ),
        pytest.param({"font_path": "gone.ttf"}, "font_path: there is no file gone", id="no font"),
        pytest.param(
            {"custom_preprocessor_path": "a", "mean": [0.5] * 3, "std": [0.5] * 3},
            "mean and std are for images without",
            id="normalized twice",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        modality(**settings)


def test_a_feature_extractor_takes_no_strips() -> None:
    with pytest.raises(ConfigError, match="strip_width"):
        modality(extracted=True, strip_width=2)


@pytest.mark.parametrize("mean", ["[0.5, 0, 1]", "0.5,0,1", "(0.5, 0, 1)", [0.5, 0, 1]])
def test_mean_and_deviation_may_be_written_as_a_text(tmp_path: Path, mean: Any) -> None:
    path = picture(tmp_path, [RED])

    loaded = modality(extracted=True, mean=mean, std="[1, 1, 1]").load(signal(path))

    np.testing.assert_array_equal(loaded[0, :, 0, 0], [0.5, 0, -1])


@pytest.mark.parametrize("kind", ["a.png", "a.npy", "turned.jpg"])
@pytest.mark.parametrize(
    ("settings", "size"),
    [
        pytest.param({"strip_width": 5}, 3 * 40 * 5, id="as it is"),
        pytest.param({"height": 20}, 3 * 20 * 7, id="resized"),
    ],
)
def test_the_length_is_told_by_the_head(
    tmp_path: Path, kind: str, settings: dict[str, Any], size: int
) -> None:
    path = tmp_path / kind
    pixels = np.zeros((40, 61, 3), dtype=np.uint8)
    if kind == "a.npy":
        np.save(path, pixels)
    elif kind == "turned.jpg":
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.fromarray(pixels.transpose(1, 0, 2)).save(path, exif=exif)
    else:
        Image.fromarray(pixels).save(path)
    loader = modality(size=size, **settings)

    assert loader.length(signal(path)) == len(loader.load(signal(path)))


def test_a_missing_image_is_found_when_its_length_is_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*gone\.png"):
        modality(extracted=True).length(signal(tmp_path / "gone.png"))


def test_an_image_processor_gets_the_image(tmp_path: Path, clip: str) -> None:
    path = picture(tmp_path, [(255, 255, 255)])

    loaded = modality(extracted=True, custom_preprocessor_path=clip).load(signal(path))

    assert loaded.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(loaded[0, :, 5, 5], [1.9303361, 2.0748837, 2.145897], rtol=1e-6)


def test_what_an_image_processor_made_is_cut_into_strips(tmp_path: Path, clip: str) -> None:
    path = picture(tmp_path, [RED])
    loader = modality(size=3 * 224 * 32, custom_preprocessor_path=clip)

    assert loader.load(signal(path)).shape == (7, 3 * 224 * 32)
    assert loader.length(signal(path)) == 7


def test_a_processor_that_makes_no_images_is_refused_at_once(clip: str) -> None:
    path = Path(clip) / "preprocessor_config.json"
    path.write_text(path.read_text().replace("CLIPImage", "LlavaNextImage"))

    with pytest.raises(ConfigError, match="custom_preprocessor_path"):
        modality(extracted=True, custom_preprocessor_path=clip)
