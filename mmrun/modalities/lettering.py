"""Text drawn with a font: one image a word."""

import io
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.font_table import characters_in

_KEY = "processor.modality_kwargs.font_path"
_POINTS = 48
_PARTS = re.compile(r'\s+|([.,?!”":;]+)')
_WHITE = 255


class Lettering:
    """Draws words in black on white, in the middle of an image, with one font."""

    def __init__(self, font_path: str, *, width: int, height: int) -> None:
        self.size = (width, height)
        try:
            # From memory: processes that are forked would share their place in an open file.
            self._bytes = Path(font_path).expanduser().read_bytes()
            self._font(_POINTS)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{_KEY}: there is no file {font_path}", hint="name a TrueType or OpenType font"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{_KEY}: {font_path} cannot be read as a font",
                hint="name a TrueType or OpenType font",
            ) from error
        self._name = Path(font_path).name
        self._characters = characters_in(self._bytes)

    def words(self, text: str) -> list[str]:
        """Split a text at spaces and around punctuation; each part is drawn by itself."""
        words = [part for part in _PARTS.split(text) if part]
        if not words:
            raise DataError("the text is empty", hint="write a text, or remove the row")
        missing = self._missing(words)
        if missing:
            named = ", ".join(f"{one!r} (U+{ord(one):04X})" for one in missing)
            raise DataError(
                f"{self._name} has no glyph for {named}",
                hint=f"choose another font in {_KEY}, or correct the text",
            )
        return words

    def drawn(self, words: list[str]) -> NDArray[np.uint8]:
        """Return grey levels ``[N, H, W]``."""
        return np.stack([np.asarray(self._drawn(word)) for word in words])

    def _missing(self, words: list[str]) -> list[str]:
        if self._characters is None:
            return []
        return sorted({one for word in words for one in word if ord(one) not in self._characters})

    def _drawn(self, word: str) -> Image.Image:
        width, height = self.size
        image = Image.new("L", self.size, _WHITE)
        draw = ImageDraw.Draw(image)
        font = self._font(_POINTS)
        left, top, right, bottom = draw.textbbox((0, 0), word, font=font)
        factor = min(width / max(right - left, 1), height / max(bottom - top, 1))
        if factor < 1:
            font = self._font(max(int(_POINTS * factor), 1))
            left, top, right, bottom = draw.textbbox((0, 0), word, font=font)
        # Not quite in the middle: where multimodalhugs draws it, unless that is outside.
        x = min((width - (right - left)) / 2, width - right)
        y = min((height - (bottom - top)) / 2, height - bottom)
        draw.text((x, y), word, fill=0, font=font)
        return image

    def _font(self, points: int) -> ImageFont.FreeTypeFont:
        return _loaded(self._bytes, points)


@lru_cache(maxsize=64)
def _loaded(font: bytes, points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(font), points)
