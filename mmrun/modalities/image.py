"""Images (PNG, JPEG, BMP, TIFF, .npy): as pixels, or as strips along the reading direction."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from PIL import Image, ImageOps
from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.augmentation import in_turn, noise, shift
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    read_settings,
)

_BYTE = 255.0
_SHORT = 65535.0
_AXES = 3
_UNREADABLE = (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError)
"""What Pillow and NumPy raise on files that are cut off, of another kind, or absurdly large."""


class ImageSettings(Settings):
    """What ``processor.modality_kwargs`` may say about images."""

    width: PositiveInt | None = None
    height: PositiveInt | None = None
    """With one of the two given, the other follows; with none, images keep their size."""
    channels: Literal[1, 3] = 3
    """3 for red, green, blue in this order; 1 for grey."""
    normalize_image: bool | None = None
    """Whether ``mean`` and ``std`` are applied; by default if they are given."""
    mean: tuple[float, ...] | None = None
    std: tuple[PositiveFloat, ...] | None = None
    """One value a channel, for pixels from 0 to 1."""
    strip_width: PositiveInt | None = None
    """Columns of pixels that make one frame; by default what ``model.feat_dim`` leaves."""
    shift: NonNegativeInt = 0
    """In training: by how many pixels the image is moved at most, in each direction."""
    noise: NonNegativeFloat = 0.0
    """In training: the standard deviation of the noise that is added to the pixels."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        if self.normalize_image and self.mean is None:
            raise ValueError("normalize_image needs mean and std, one value a channel")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.channels:
                raise ValueError(
                    f"{name} has {len(values)} values for images of {self.channels} channels"
                )
        return self


class ImageModality:
    """Loads images, with pixels scaled to 0..1 before mean and standard deviation."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        extracted = model.extracted
        self._settings = read_settings(ImageSettings, settings)
        self._feature_size = model.feature_size
        self._extracted = extracted
        if extracted and self._settings.strip_width is not None:
            raise ConfigError(
                "processor.modality_kwargs.strip_width: a feature extractor takes whole images",
                hint="remove strip_width, or the feature extractor",
            )
        sized = self._settings.height or self._settings.strip_width
        if self._settings.shift and not extracted and sized is None:
            raise ConfigError(
                "processor.modality_kwargs.shift: needs to know how high the strips are",
                hint="give height or strip_width, too",
            )

    def length(self, signal: Signal) -> int:
        """Return the number of strips, or 1 for a feature extractor."""
        return len(self.load(signal))

    def load(self, signal: Signal) -> Array:
        """Return ``[1, C, H, W]`` for a feature extractor, else strips ``[T, C * H * width]``."""
        path = signal.path
        if not signal.span.whole:
            raise DataError(
                f"{path} is an image, it has no span", hint="set signal_start and signal_end to 0"
            )
        pixels = self._normalized(self._pixels(path))
        channels_first = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return channels_first[None] if self._extracted else self._strips(channels_first, path=path)

    def augmentation(self) -> Augmentation | None:
        """Return what the settings ask for."""
        move = shift(self._settings.shift)
        if move is not None and not self._extracted:
            move = self._on_whole_image(move)
        return in_turn(move, noise(self._settings.noise))

    def _on_whole_image(self, change: Augmentation) -> Augmentation:
        """Put the strips together, change the image, and cut it again."""
        channels, values = self._settings.channels, self._feature_size
        height = self._settings.height or values // (channels * (self._settings.strip_width or 1))
        strip = values // (channels * height)

        def changed(strips: Array, random: np.random.Generator) -> Array:
            planes = strips.reshape(-1, channels, height, strip).transpose(1, 2, 0, 3)
            image = planes.reshape(channels, height, -1)
            return _cut(change(image, random), strip=strip)

        return changed

    def _pixels(self, path: Path) -> Array:
        """Return ``[H, W, C]``, from 0 to 1."""
        try:
            if path.suffix.lower() == ".npy":
                return self._from_array(np.load(path, allow_pickle=False), path=path)
            with Image.open(path) as image:
                return self._from_image(image)
        except FileNotFoundError as error:
            raise DataError(f"there is no file {path}", hint="correct the column signal") from error
        except _UNREADABLE as error:
            raise DataError(
                f"{path} cannot be read: it is not a whole image (PNG, JPEG, BMP, TIFF, .npy)",
                hint="open it in an image viewer, and store it again",
            ) from error

    def _from_image(self, image: Image.Image) -> Array:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8, not scale them
            grey = np.asarray(upright, dtype=np.float32)[:, :, None] / _SHORT
            return self._resized(self._recoloured(grey))
        mode = "L" if self._settings.channels == 1 else "RGB"
        coloured = upright.convert(mode)
        size = self._size(width=coloured.width, height=coloured.height)
        if size != coloured.size:
            coloured = coloured.resize(size, Image.Resampling.BILINEAR)
        pixels = np.asarray(coloured, dtype=np.float32) / np.float32(_BYTE)
        return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)

    def _from_array(self, array: "np.ndarray[Any, Any]", *, path: Path) -> Array:
        """Take ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``: bytes, or numbers from 0 to 1."""
        pixels = array[:, :, None] if array.ndim == _AXES - 1 else array
        if pixels.ndim != _AXES:
            raise DataError(
                f"{path} has the shape {list(array.shape)}; it must be [height, width, channels]",
                hint="store one image a file",
            )
        if pixels.shape[2] not in {1, 3} and pixels.shape[0] in {1, 3}:
            pixels = pixels.transpose(1, 2, 0)
        if pixels.shape[2] not in {1, 3}:
            raise DataError(
                f"{path} has {pixels.shape[2]} channels", hint="store 1 (grey) or 3 (RGB) channels"
            )
        scaled = pixels.astype(np.float32) / (_BYTE if pixels.dtype == np.uint8 else 1)
        if not (np.isfinite(scaled).all() and scaled.min() >= 0 and scaled.max() <= 1):
            raise DataError(
                f"{path} holds values outside 0 to 1",
                hint="store bytes (uint8), or numbers from 0 to 1",
            )
        return self._resized(self._recoloured(scaled))

    def _recoloured(self, pixels: Array) -> Array:
        wanted = self._settings.channels
        if pixels.shape[2] == wanted:
            return pixels
        if wanted == 1:
            weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
            return (pixels @ weights)[:, :, None]
        return np.repeat(pixels, wanted, axis=2)

    def _resized(self, pixels: Array) -> Array:
        height, width = pixels.shape[:2]
        size = self._size(width=width, height=height)
        if size == (width, height):
            return pixels
        planes = [
            np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
            for plane in np.ascontiguousarray(pixels.transpose(2, 0, 1))
        ]
        return np.stack(planes, axis=2).astype(np.float32)

    def _size(self, *, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image of this size is brought to."""
        wanted = self._settings
        if wanted.width and wanted.height:
            return wanted.width, wanted.height
        if wanted.height:
            return max(round(width * wanted.height / height), 1), wanted.height
        if wanted.width:
            return wanted.width, max(round(height * wanted.width / width), 1)
        return width, height

    def _normalized(self, pixels: Array) -> Array:
        mean, std = self._settings.mean, self._settings.std
        if mean is None or std is None or self._settings.normalize_image is False:
            return pixels
        centre = np.array(mean, dtype=np.float32)
        return ((pixels - centre) / np.array(std, dtype=np.float32)).astype(np.float32)

    def _strips(self, pixels: Array, *, path: Path) -> Array:
        """Cut ``[C, H, W]`` from left to right; the last strip is filled up with zeros."""
        channels, height, width = pixels.shape
        strip = self._settings.strip_width or max(self._feature_size // (channels * height), 1)
        if channels * height * strip != self._feature_size:
            raise DataError(
                f"{path}: strips of {channels} channels, {height} high and {strip} wide have "
                f"{channels * height * strip} values, model.feat_dim is {self._feature_size}",
                hint="set channels, height and strip_width in processor.modality_kwargs so that "
                "their product is model.feat_dim",
            )
        return _cut(np.pad(pixels, ((0, 0), (0, 0), (0, -width % strip))), strip=strip)


def _cut(pixels: Array, *, strip: int) -> Array:
    """Return ``[C, H, T * strip]`` as one row of ``C * H * strip`` values a strip."""
    channels, height, _ = pixels.shape
    cut = pixels.reshape(channels, height, -1, strip).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(cut.reshape(cut.shape[0], -1))
