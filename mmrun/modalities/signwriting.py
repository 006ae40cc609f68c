"""SignWriting in its ASCII form (FSW), each sign drawn as one image."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydantic import Field, PositiveInt, model_validator
from signwriting.formats.fsw_to_sign import fsw_to_sign
from signwriting.formats.fsw_to_swu import key2id, symbol_fill, symbol_line
from signwriting.formats.swu_to_fsw import swu2fsw
from signwriting.visualizer.visualize import get_font, signwriting_box

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    read_settings,
)
from mmrun.modalities.grey_images import GreyImages, scaled_levels
from mmrun.modalities.preprocessor import Preprocessor

_SYMBOL = r"S(?:[12][0-9a-f]|3[0-7])[0-9a-f][0-5][0-9a-f]|S38[0-9ab][0-5][0-9a-f]"
_PLACED = rf"(?:{_SYMBOL})\d{{3}}x\d{{3}}"
_COLOUR = r"(?:[0-9a-zA-Z]+|#[0-9a-fA-F]+)"
_COLOURS = rf"_{_COLOUR}(?:,{_COLOUR})?_"
_STYLE = (
    rf"-C?(?:P\d\d)?C?(?:G_{_COLOUR}_)?(?:D{_COLOURS})?(?:Z(?:\d+(?:\.\d+)?|x))?"
    rf"(?:-?(?:D\d\d{_COLOURS})+)?(?:-[\w-]*!(?:[\w-]+!)?)?"
)
_SIGN = re.compile(
    rf"(?:A(?:{_SYMBOL})+)?\s*([BLMR]\d{{3}}x\d{{3}}(?:{_PLACED})*|(?:{_PLACED})+)(?:{_STYLE})?\s*"
)
"""A sign in its box, maybe after the order of its symbols; or symbols without one: punctuation.

How it should look (padding, colours, zoom) may follow, and is left out.
"""
_SWU = re.compile("[\U0001d800-\U0001daaa\U00040001-\U0004f480]")
_EDGE = 5
_LINES, _FILLINGS = "SuttonSignWritingLine", "SuttonSignWritingFill"
_BLACK, _WHITE = (0, 0, 0, 255), (255, 255, 255, 255)
_MARGIN = 2
_SHOWN = 60


class SignWritingSettings(Settings):
    """What ``processor.modality_kwargs`` may say about SignWriting."""

    width: PositiveInt = Field(default=224, gt=2 * _EDGE)
    height: PositiveInt = Field(default=224, gt=2 * _EDGE)
    """The size of an image; a sign is drawn in its middle, and made smaller where it must be."""
    channels: Literal[1, 3] = 3
    """Of the images, which are grey; an image processor decides for itself."""
    invert_frame: bool = True
    """White signs on black, not black ones on white."""
    custom_preprocessor_path: str | None = None
    """An image processor of Hugging Face; without one, pixels are numbers from 0 to 1."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.custom_preprocessor_path is not None and self.channels == 1:
            raise ValueError("custom_preprocessor_path and channels: 1: processors make 3")
        return self


class SignWritingModality:
    """Loads one image a sign: ``[N, C, H, W]``, or ``[N, C * H * W]`` without an extractor."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        self._settings = read_settings(SignWritingSettings, settings)
        self._extracted = model.extracted
        path = self._settings.custom_preprocessor_path
        self._size = (self._settings.width, self._settings.height)
        if path is None:
            self._finished = GreyImages(table=scaled_levels(self._settings.channels))
        else:
            self._finished = GreyImages.processed(
                Preprocessor(path), width=self._size[0], height=self._size[1]
            )
        if not model.extracted:
            _require_size(self._pixels([_blank(self._size)]), feature_size=model.feature_size)

    def length(self, signal: Signal) -> int:
        """Return the number of signs."""
        return len(_signs(signal))

    def load(self, signal: Signal) -> Array:
        """Return the drawn signs."""
        pixels = self._pixels([_centred(_drawn(sign), size=self._size) for sign in _signs(signal)])
        return pixels if self._extracted else pixels.reshape(len(pixels), -1)

    def augmentation(self) -> Augmentation | None:
        """Return None: signs are not changed."""
        return None

    def _pixels(self, drawn: list[Image.Image]) -> NDArray[np.float32]:
        grey = np.stack([np.asarray(image) for image in drawn])
        if self._settings.invert_frame:
            grey = 255 - grey
        return self._finished(grey)


def _require_size(one: NDArray[np.float32], *, feature_size: int) -> None:
    if one.size != feature_size:
        made = " x ".join(map(str, one.shape[1:]))
        raise ConfigError(
            f"model.feat_dim: is {feature_size}; an image of a sign has {made} = {one.size} values",
            hint=f"set model.feat_dim to {one.size}, or width, height and channels in "
            "processor.modality_kwargs, or give the model a feature extractor",
        )


def _signs(signal: Signal) -> list[str]:
    """Split a text into its signs; what is none is named."""
    if not signal.span.whole:
        raise DataError("SignWriting has no span", hint="set signal_start and signal_end to 0")
    text = signal.text.strip()
    if _SWU.search(text):
        text = swu2fsw(text)
    signs, position = [], 0
    while found := _SIGN.match(text, position):
        signs.append(found[1])
        position = found.end()
    if not signs or position < len(text):
        rest = text[position:]
        raise DataError(
            f"{_shortened(rest)!r} is not SignWriting" + (" (FSW)" if text else ", it is empty"),
            hint="write signs as M518x529S14c20481x471S27106503x489, with spaces between them",
        )
    for sign in signs:
        if not re.search(_SYMBOL, sign):
            raise DataError(
                f"{sign!r} is a sign without a symbol, its image would be blank",
                hint="write its symbols, or remove it",
            )
    for symbol in re.findall(_SYMBOL, "".join(signs)):
        if _glyph(symbol, _LINES) is None:
            raise DataError(
                f"{symbol} is no symbol of SignWriting, it cannot be drawn",
                hint="correct it: these six characters say symbol, filling and rotation",
            )
    return signs


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _drawn(sign: str) -> Image.Image:
    """Draw one sign as large as its symbols are, like the visualizer of the package does.

    That one draws each symbol anew with its font; here a symbol is drawn once.
    """
    read = fsw_to_sign(sign)
    placed = [(symbol["symbol"], *symbol["position"]) for symbol in read["symbols"]]
    if not placed:
        return Image.new("RGBA", (1, 1))
    left, top = (min(place[axis] for place in placed) for axis in (1, 2))
    right, bottom = signwriting_box(read)
    image = Image.new("RGBA", (right - left, bottom - top), (255, 255, 255, 0))
    for symbol, x, y in placed:
        for ink, font in ((_WHITE, _FILLINGS), (_BLACK, _LINES)):
            if glyph := _glyph(symbol, font):
                at = (x - left + glyph.right, y - top + glyph.down)
                box = (*at, at[0] + glyph.ink.width, at[1] + glyph.ink.height)
                image.paste(ink, box, glyph.ink)
    return image


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyph:
    """A drawn symbol."""

    ink: Image.Image
    right: int
    down: int
    """How far from the position of the symbol its ink begins."""


@lru_cache(maxsize=2**14)
def _glyph(symbol: str, font_name: str) -> Glyph | None:
    """Draw a symbol; None where there is nothing to draw."""
    character = (symbol_line if font_name == _LINES else symbol_fill)(key2id(symbol))
    font = get_font(font_name)
    _, _, right, bottom = font.getbbox(character)
    canvas = Image.new("L", (int(right) + 2 * _MARGIN, int(bottom) + 2 * _MARGIN))
    ImageDraw.Draw(canvas).text((_MARGIN, _MARGIN), character, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return None
    return Glyph(ink=canvas.crop(box), right=box[0] - _MARGIN, down=box[1] - _MARGIN)


def _blank(size: tuple[int, int]) -> Image.Image:
    return Image.new("L", size, 255)


def _centred(sign: Image.Image, *, size: tuple[int, int]) -> Image.Image:
    """Put a sign into the middle of a white image, smaller where it would come near the edge."""
    room = [length - 2 * _EDGE for length in size]
    aspect = sign.width / sign.height
    if aspect > 1:
        width = min(sign.width, room[0])
        fitted = (width, int(width / aspect))
    else:
        height = min(sign.height, room[1])
        fitted = (int(height * aspect), height)
    if fitted[0] > room[0] or fitted[1] > room[1]:  # the image is not square
        factor = min(room[0] / sign.width, room[1] / sign.height)
        fitted = (int(sign.width * factor), int(sign.height * factor))
    fitted = (max(fitted[0], 1), max(fitted[1], 1))
    if fitted != sign.size:
        sign = sign.resize(fitted, Image.Resampling.LANCZOS)
    canvas = _blank(size)
    at = ((size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2)
    canvas.paste(sign.getchannel("R"), at, sign.getchannel("A"))
    return canvas
