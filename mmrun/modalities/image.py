"""Images (PNG, JPEG, BMP, TIFF, .npy), or texts drawn as images: whole, or as strips."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
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
from mmrun.modalities.grey_images import GreyImages, looked_up, scaled_levels
from mmrun.modalities.lettering import Lettering
from mmrun.modalities.picture_files import SUFFIXES, picture_size, read_picture
from mmrun.modalities.preprocessor import Preprocessor

_BYTE = np.float32(255)
_COLOURS = 3
_SIDE = 224
"""Width and height of a drawn word, where they are not given."""


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
    custom_preprocessor_path: str | None = None
    """An image processor of Hugging Face, which gets the image in its size."""
    font_path: str | None = None
    """What a signal is drawn with that is a text, not a file."""
    strip_width: PositiveInt | None = None
    """Columns of pixels that make one frame; by default what ``model.feat_dim`` leaves."""
    shift: NonNegativeInt = 0
    """In training: by how many pixels the image is moved at most, in each direction."""
    noise: NonNegativeFloat = 0.0
    """In training: the standard deviation of the noise that is added to the pixels."""

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """Read a list that is written as a text, as configuration files of multimodalhugs do."""
        return given.strip(" []()").split(",") if isinstance(given, str) else given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        if self.mean is not None and self.custom_preprocessor_path is not None:
            raise ValueError("mean and std are for images without custom_preprocessor_path")
        if self.normalize_image and self.mean is None:
            raise ValueError("normalize_image needs mean and std, one value a channel")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.channels:
                raise ValueError(
                    f"{name} has {len(values)} values for images of {self.channels} channels"
                )
        return self

    def sizing(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height that an image of this size is brought to."""
        if self.width and self.height:
            return self.width, self.height
        if self.height:
            return max(round(width * self.height / height), 1), self.height
        if self.width:
            return self.width, max(round(height * self.width / width), 1)
        return width, height

    def normalized(self, pixels: Array) -> Array:
        """Apply mean and standard deviation to ``[..., C]``, if they are wanted."""
        if self.mean is None or self.std is None or self.normalize_image is False:
            return pixels
        centre = np.array(self.mean, dtype=np.float32)
        return np.asarray((pixels - centre) / np.array(self.std, dtype=np.float32))


class ImageModality:
    """Loads images, with pixels scaled to 0..1 before mean and standard deviation."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        self._settings = read_settings(ImageSettings, settings)
        self._feature_size = model.feature_size
        self._extracted = model.extracted
        self._require_strips()
        levels = self._settings.normalized(scaled_levels(self._settings.channels).T)
        self._table = np.ascontiguousarray(levels.T)
        path = self._settings.custom_preprocessor_path
        self._preprocessor = None if path is None else Preprocessor(path)
        if self._preprocessor is not None:  # what it cannot do is said now, not in training
            self._preprocessor([np.zeros((_SIDE, _SIDE, _COLOURS), dtype=np.uint8)])
        self._lettering: Lettering | None = None
        if self._settings.font_path is not None:
            width, height = self._settings.width or _SIDE, self._settings.height or _SIDE
            self._lettering = Lettering(self._settings.font_path, width=width, height=height)
            self._finished = self._for_letters(width=width, height=height)

    def _require_strips(self) -> None:
        wanted = self._settings
        if self._extracted and wanted.strip_width is not None:
            raise ConfigError(
                "processor.modality_kwargs.strip_width: a feature extractor takes whole images",
                hint="remove strip_width, or the feature extractor",
            )
        known = wanted.custom_preprocessor_path is None and (wanted.height or wanted.strip_width)
        if wanted.shift and not self._extracted and not known:
            raise ConfigError(
                "processor.modality_kwargs.shift: needs to know how high the images are",
                hint="give height or strip_width, and no custom_preprocessor_path",
            )

    def _for_letters(self, *, width: int, height: int) -> GreyImages:
        if self._preprocessor is not None:
            return GreyImages.processed(self._preprocessor, width=width, height=height)
        return GreyImages(table=self._table)

    def length(self, signal: Signal) -> int:
        """Return the number of strips, or of images for a feature extractor."""
        self._require_whole(signal)
        words = self._words(signal)
        count = 1 if words is None else len(words)
        if self._lettering is not None and words is not None:
            width, height = self._lettering.size
        else:
            width, height = self._settings.sizing(*picture_size(signal.path))
        if self._extracted:
            return count
        if self._preprocessor is not None:  # whose sizes are its own
            return len(self.load(signal))
        strip = self._strip(height=height, channels=self._settings.channels, of=signal.text)
        return count * ceil(width / strip)

    def load(self, signal: Signal) -> Array:
        """Return ``[N, C, H, W]`` for a feature extractor, else strips ``[T, C * H * width]``.

        N is 1 for a file, and the number of words for a text that is drawn.
        """
        self._require_whole(signal)
        words = self._words(signal)
        if words is not None and self._lettering is not None:
            images = self._finished(self._lettering.drawn(words))
        else:
            images = self._picture(signal.path)
        if self._extracted:
            return images
        _, channels, height, width = images.shape
        strip = self._strip(height=height, channels=channels, of=signal.text)
        filled = np.pad(images, ((0, 0), (0, 0), (0, 0), (0, -width % strip)))
        return np.concatenate([_cut(image, strip=strip) for image in filled])

    def _require_whole(self, signal: Signal) -> None:
        if not signal.span.whole:
            raise DataError(
                f"{signal.path} is an image, it has no span",
                hint="set signal_start and signal_end to 0",
            )

    def _words(self, signal: Signal) -> list[str] | None:
        """Return the words to draw; None where the signal is a file, or the name of one."""
        if self._lettering is None or PurePath(signal.text).suffix.lower() in SUFFIXES:
            return None
        return None if signal.is_file() else self._lettering.words(signal.text)

    def _picture(self, path: Path) -> Array:
        wanted = self._settings
        pixels = read_picture(path, channels=wanted.channels, sizing=wanted.sizing)
        levels = np.asarray(pixels, dtype=np.uint8) if pixels.dtype == np.uint8 else None
        if self._preprocessor is not None:
            if levels is None:
                levels = np.rint(pixels * _BYTE).astype(np.uint8)
            return self._preprocessor([np.repeat(levels, _COLOURS // wanted.channels, axis=2)])
        if levels is not None:
            return looked_up(self._table, levels.transpose(2, 0, 1)[None])
        shares = wanted.normalized(np.asarray(pixels, dtype=np.float32))
        return np.ascontiguousarray(shares.transpose(2, 0, 1))[None]

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

    def _strip(self, *, height: int, channels: int, of: str) -> int:
        """Return the width of a strip of an image."""
        strip = self._settings.strip_width or max(self._feature_size // (channels * height), 1)
        if channels * height * strip != self._feature_size:
            raise DataError(
                f"{of}: strips of {channels} channels, {height} high and {strip} wide have "
                f"{channels * height * strip} values, model.feat_dim is {self._feature_size}",
                hint="set channels, height and strip_width in processor.modality_kwargs so that "
                "their product is model.feat_dim",
            )
        return strip


def _cut(pixels: Array, *, strip: int) -> Array:
    """Return ``[C, H, T * strip]`` as one row of ``C * H * strip`` values a strip."""
    channels, height, _ = pixels.shape
    cut = pixels.reshape(channels, height, -1, strip).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(cut.reshape(cut.shape[0], -1))
