from typing import Any

import numpy as np
import pytest
from signwriting.formats.fsw_to_swu import fsw2swu
from signwriting.visualizer.visualize import visualize_sign

from mmrun.errors import ConfigError, DataError
from mmrun.modalities import signwriting
from mmrun.modalities.base import Array, ModelInput, Signal, Span
from mmrun.modalities.signwriting import SignWritingModality

HELLO = "M518x529S14c20481x471S27106503x489"
DEAF = "M536x550S15a28485x523S16d10519x484S22b03507x508S20500498x532S31400482x482"
ORDER = "AS16d10S22b03S20500S15a28S31400"
FULL_STOP = "S38800464x496"
WIDE = "M500x500S10000250x480S10000749x520"
TALL = "M500x500S10000480x250S10000520x749"


def modality(*, size: int = 1, extracted: bool = True, **settings: Any) -> SignWritingModality:
    return SignWritingModality(settings, model=ModelInput(feature_size=size, extracted=extracted))


def drawn(text: str, **settings: Any) -> Array:
    return modality(**settings).load(Signal(text=text))


@pytest.mark.parametrize(
    ("text", "settings", "sums"),
    [
        pytest.param(
            f"{ORDER}{DEAF} {HELLO}{FULL_STOP} {FULL_STOP}",
            {},
            [-243062.1276, -241480.0874, -245676.1012],
            id="several signs",
        ),
        pytest.param(f"{WIDE} {TALL}", {}, [-251585.2834, -251627.1375], id="too large"),
        pytest.param(HELLO, {"invert_frame": False}, [303449.886], id="black on white"),
        pytest.param(HELLO, {"width": 64, "height": 48}, [-202838.8227], id="resized after"),
    ],
)
def test_the_numbers_are_those_of_multimodalhugs(
    clip: str, text: str, settings: dict[str, Any], sums: list[float]
) -> None:
    images = drawn(text, custom_preprocessor_path=clip, **settings)

    assert images.shape == (len(sums), 3, 224, 224)
    assert images.dtype == np.float32
    # What multimodalhugs 0.5.4 made of the same text.
    np.testing.assert_allclose(images.sum((1, 2, 3), dtype=float), sums, atol=1e-2)


@pytest.mark.parametrize("sign", [HELLO, DEAF, TALL, f"M500x500{FULL_STOP}"])
def test_signs_are_drawn_as_the_visualizer_of_the_package_draws_them(sign: str) -> None:
    image = signwriting._drawn(sign)

    assert image.tobytes() == visualize_sign(sign, trust_box=False).tobytes()


def test_without_an_image_processor_pixels_go_from_0_to_1() -> None:
    images = drawn(HELLO, width=64, height=48, channels=1)

    assert images.shape == (1, 1, 48, 64)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert images[0, 0, 0, 0] == 0  # the ground is black


def test_without_a_feature_extractor_an_image_is_one_row_of_values() -> None:
    settings = {"width": 20, "height": 30, "channels": 3}

    rows = drawn(f"{HELLO} {DEAF}", **settings, size=1800, extracted=False)

    np.testing.assert_array_equal(rows, drawn(f"{HELLO} {DEAF}", **settings).reshape(2, 1800))


def test_a_model_that_takes_another_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"feat_dim: is 534; .* has 3 x 20 x 30 = 1800 values"):
        modality(size=534, extracted=False, width=30, height=20)


@pytest.mark.parametrize(
    "text",
    [f"{HELLO} {DEAF}", f"{HELLO}{DEAF}", f"  {HELLO}\t {DEAF} ", f"{HELLO} {ORDER}{DEAF}"],
)
def test_each_sign_is_one_image(text: str) -> None:
    assert drawn(text).shape == (2, 3, 224, 224)
    assert modality().length(Signal(text=text)) == 2


@pytest.mark.parametrize(
    "style",
    ["-C", "-P10CG_blue_Z2", "-CP10G_#fff_D_red,blue_Z1.5", "-C-D01_red_D02_0f0_", "--a!b!"],
)
def test_the_style_of_a_sign_is_left_out(style: str) -> None:
    np.testing.assert_array_equal(drawn(f"{HELLO}{style} {DEAF}"), drawn(f"{HELLO} {DEAF}"))


def test_signs_may_be_written_in_unicode() -> None:
    np.testing.assert_array_equal(
        drawn(fsw2swu(f"{ORDER}{DEAF} {HELLO}")), drawn(f"{DEAF} {HELLO}")
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("hello world", "'hello world' is not SignWriting", id="words"),
        pytest.param("", "it is empty", id="nothing"),
        pytest.param(f"{HELLO} hello", "'hello' is not SignWriting", id="a word after a sign"),
        pytest.param("M518x529S14c", "'S14c' is not SignWriting", id="cut off"),
        pytest.param("M518x529S38c20481x471", "'S38c2.*' is not SignWriting", id="no such number"),
        pytest.param(f"{HELLO}-Q7", "'Q7' is not SignWriting", id="no style"),
        pytest.param("M518x529", "'M518x529' is a sign without a symbol", id="blank"),
        pytest.param("M518x529S14d00481x471", "S14d00 is no symbol", id="nothing to draw"),
    ],
)
@pytest.mark.parametrize("ask", ["load", "length"])
def test_what_is_no_sign_is_named(text: str, problem: str, ask: str) -> None:
    with pytest.raises(DataError, match=problem):
        getattr(modality(), ask)(Signal(text=text))


def test_an_image_processor_does_not_make_grey_images(clip: str) -> None:
    with pytest.raises(ConfigError, match="custom_preprocessor_path and channels: 1"):
        modality(custom_preprocessor_path=clip, channels=1)


def test_signs_have_no_span() -> None:
    with pytest.raises(DataError, match="has no span"):
        modality().load(Signal(text=HELLO, span=Span(end=1)))


def test_an_image_processor_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"custom_preprocessor_path: there is no folder \./gone"):
        modality(custom_preprocessor_path="./gone")
