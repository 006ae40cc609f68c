from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, ModelInput, Signal, Span
from mmrun.modalities.image import ImageModality
from mmrun.modalities.lettering import Lettering


def modality(font: str, *, size: int = 1, extracted: bool = True, **settings: Any) -> ImageModality:
    model = ModelInput(feature_size=size, extracted=extracted)
    return ImageModality({"font_path": font, **settings}, model=model)


def ink(images: Array) -> list[tuple[int, int, int, int] | None]:
    """Return the boxes (left, top, right, bottom) of what is drawn in black on white."""
    return [Image.fromarray(np.uint8(255 * (1 - image[0]))).getbbox() for image in images]


def test_the_numbers_are_those_of_multimodalhugs(font: str) -> None:
    loader = modality(font, width=224, height=224, mean="[0.9, 0.8, 0.7]", std="[0.5,0.4,0.3]")

    images = loader.load(Signal(text="Good day, (2.5)!"))

    assert images.shape == (7, 3, 224, 224)
    # What multimodalhugs 0.5.4 made of the same text and font.
    sums = [75344.57, 78401.198, 84930.511, 82153.026, 85078.792, 81919.255, 84229.781]
    np.testing.assert_allclose(images.sum((1, 2, 3), dtype=float), sums, atol=0.1)
    np.testing.assert_allclose(images[0, 0, 112, 60:64], [-1.8, -1.8, -0.7333334, 0.2], atol=1e-5)


def test_without_mean_and_deviation_letters_are_black_on_white(font: str) -> None:
    images = modality(font, channels=1).load(Signal(text="word"))

    assert images.shape == (1, 1, 224, 224)
    assert (images.min(), images.max()) == (0, 1)
    assert images[0, 0, 0, 0] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("two words", ["two", "words"], id="spaces"),
        pytest.param(" so,  it ends. ", ["so", ",", "it", "ends", "."], id="punctuation"),
        pytest.param("why?! (1)", ["why", "?!", "(1)"], id="signs in a row"),
    ],
)
def test_each_word_is_one_image(font: str, text: str, words: list[str]) -> None:
    assert Lettering(font, width=9, height=9).words(text) == words
    assert modality(font).length(Signal(text=text)) == len(words)


@pytest.mark.parametrize("size", [(40, 224), (224, 24), (30, 20)])
def test_what_does_not_fit_is_drawn_smaller_and_not_cut_off(
    font: str, size: tuple[int, int]
) -> None:
    large = ink(modality(font, width=900, height=224).load(Signal(text="Wednesday, lag")))

    images = modality(font, width=size[0], height=size[1]).load(Signal(text="Wednesday, lag"))

    for box, whole in zip(ink(images), large, strict=True):
        assert box is not None
        assert whole is not None
        assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(
            (whole[2] - whole[0]) / (whole[3] - whole[1]), rel=0.35
        )


@pytest.mark.parametrize("ask", ["load", "length"])
def test_characters_that_the_font_does_not_have_are_named(font: str, ask: str) -> None:
    with pytest.raises(DataError, match=r"plain\.ttf has no glyph for 'ß' \(U\+00DF\), 'ü'"):
        getattr(modality(font), ask)(Signal(text="Grüße für Grete"))


def test_an_empty_text_is_refused(font: str) -> None:
    with pytest.raises(DataError, match="the text is empty"):
        modality(font).length(Signal(text="  "))


def test_a_file_is_read_and_not_drawn(font: str, tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "white").save(tmp_path / "a.png")

    assert modality(font).load(Signal(text="a.png", folder=tmp_path)).shape == (1, 3, 2, 3)


@pytest.mark.parametrize("name", ["gone.png", "no/such.JPG", "gone.npy"])
def test_the_name_of_a_missing_image_is_not_drawn(font: str, name: str) -> None:
    with pytest.raises(DataError, match="there is no file"):
        modality(font).load(Signal(text=name))


def test_a_text_has_no_span(font: str) -> None:
    with pytest.raises(DataError, match="no span"):
        modality(font).load(Signal(text="word", span=Span(end=1)))


@pytest.mark.parametrize("settings", [{}, {"strip_width": 8}])
def test_without_a_feature_extractor_words_are_cut_into_strips(
    font: str, settings: dict[str, Any]
) -> None:
    size = 3 * 16 * settings.get("strip_width", 32)
    loader = modality(font, size=size, extracted=False, width=32, height=16, **settings)
    signal = Signal(text="two words")

    strips = loader.load(signal)

    assert strips.shape == (2 * 3 * 16 * 32 // size, size)
    assert loader.length(signal) == len(strips)
    image = modality(font, width=32, height=16).load(signal)[1]
    left = strips[len(strips) // 2].reshape(3, 16, -1)
    np.testing.assert_array_equal(left, image[:, :, : left.shape[2]])


def test_an_image_processor_gets_the_words(font: str, clip: str) -> None:
    images = modality(font, custom_preprocessor_path=clip).load(Signal(text="two words"))

    assert images.shape == (2, 3, 224, 224)
    np.testing.assert_allclose(images[0, :, 5, 5], [1.9303361, 2.0748837, 2.145897], rtol=1e-6)


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ttf"
    path.write_text("no font")

    with pytest.raises(ConfigError, match=r"a\.ttf cannot be read as a font"):
        modality(str(path))
