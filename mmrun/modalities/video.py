"""Videos: the frames of a file, or of a span of it, in red, green, blue."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.augmentation import frame_dropping, in_turn, noise
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    Unit,
    read_settings,
)
from mmrun.modalities.clips import Clip, read_clip
from mmrun.modalities.preprocessor import Pixels, Preprocessor

_BYTE = 255.0
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_QUARTER = 90
"""Degrees; phones store a video as the camera lies, and how to turn it."""


class VideoSettings(Settings):
    """What ``processor.modality_kwargs`` may say about videos."""

    signal_start_end_unit: Unit = "milliseconds"
    skip_frames_stride: PositiveInt | None = None
    """Keep every n-th frame."""
    custom_preprocessor_path: str | None = None
    """An image or video processor of transformers that makes the pixels: a folder, or a name."""
    join_chw: bool = False
    """Make one row of values of each frame; so it is without a feature extractor in any case."""
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    """With one of the two given, the other follows; with none, frames keep their size."""
    channels: Literal[1, 3] = 3
    """3 for red, green, blue in this order; 1 for grey."""
    mean: tuple[float, ...] | None = None
    std: tuple[PositiveFloat, ...] | None = None
    """One value a channel, for pixels from 0 to 1. Without them pixels are from 0 to 255."""
    frame_dropping: float = Field(default=0.0, ge=0, lt=1)
    """In training: the share of the frames that are left out at random."""
    noise: NonNegativeFloat = 0.0
    """In training: the standard deviation of the noise that is added."""

    without_effect: ClassVar[Mapping[str, str]] = {
        "use_cache": "data.cache decides what is kept",
        "io_max_retries": "a file is read once, and what is wrong with it is said at once",
    }

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std are given together or not at all")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != self.channels:
                raise ValueError(
                    f"{name} has {len(values)} values for frames of {self.channels} channels"
                )
        own = {"width", "height", "channels", "mean", "std"} & self.model_fields_set
        if self.custom_preprocessor_path is not None and own:
            raise ValueError(
                f"custom_preprocessor_path and {min(own)}: the processor decides on size and values"
            )
        return self


class VideoModality:
    """Loads ``[T, C, H, W]`` for a feature extractor, else ``[T, C * H * W]``."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        self._settings = read_settings(VideoSettings, settings)
        self._feature_size = model.feature_size
        if model.extracted and self._settings.join_chw:
            raise ConfigError(
                "processor.modality_kwargs.join_chw: a feature extractor takes whole frames",
                hint="remove join_chw, or the feature extractor",
            )
        self._joined = not model.extracted
        name = self._settings.custom_preprocessor_path
        self._preprocessor = None if name is None else Preprocessor(name)

    def length(self, signal: Signal) -> int:
        """Return the number of frames; none is decoded."""
        return len(self._frames(self._clip(signal), signal))

    def load(self, signal: Signal) -> Array:
        """Return the frames of the span; only from the key frame before it on they are decoded."""
        clip = self._clip(signal)
        pictures = clip.pictures(self._frames(clip, signal))
        reformatter = VideoReformatter()  # not shared: files are loaded in several threads
        pixels = [self._pixels(picture, reformatter) for picture in pictures]
        if self._preprocessor is not None:
            frames = self._preprocessor(pixels)
        else:
            frames = self._scaled(self._stacked(pixels, path=signal.path))
        if not self._joined:
            return frames
        return self._fitting(frames.reshape(len(frames), -1), path=signal.path)

    def augmentation(self) -> Augmentation | None:
        """Return what the settings ask for."""
        wanted = self._settings
        return in_turn(frame_dropping(wanted.frame_dropping), noise(wanted.noise))

    def _clip(self, signal: Signal) -> Clip:
        wanted = self._settings
        clip = read_clip(signal.path, timed=not signal.span.whole)
        if self._joined and self._preprocessor is None and not (wanted.width or wanted.height):
            self._require_fit(clip.width * clip.height * wanted.channels, path=signal.path)
        return clip

    def _frames(self, clip: Clip, signal: Signal) -> range:
        return clip.frames(
            signal.span,
            unit=self._settings.signal_start_end_unit,
            stride=self._settings.skip_frames_stride or 1,
        )

    def _pixels(self, picture: av.VideoFrame, reformatter: VideoReformatter) -> Pixels:
        turns = picture.rotation // _QUARTER
        sideways = bool(turns % 2)
        stored = (picture.height, picture.width)
        height, width = self._size(*(stored[::-1] if sideways else stored))
        resized = reformatter.reformat(
            picture,
            width=height if sideways else width,
            height=width if sideways else height,
            format="rgb24",
            interpolation="BILINEAR",
            threads=1,  # more cost more than they save at any size that a model takes
        )
        pixels = resized.to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, turns) if turns else pixels, dtype=np.uint8)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width that pictures of this size are brought to."""
        wanted = self._settings
        if wanted.width and wanted.height:
            return wanted.height, wanted.width
        if wanted.height:
            return wanted.height, max(round(width * wanted.height / height), 1)
        if wanted.width:
            return max(round(height * wanted.width / width), 1), wanted.width
        return height, width

    def _stacked(self, pixels: list[Pixels], *, path: Path) -> NDArray[np.float32]:
        if len({frame.shape for frame in pixels}) > 1:
            raise DataError(
                f"{path} changes its size on the way",
                hint="give width and height in processor.modality_kwargs",
            )
        frames = np.stack(pixels).astype(np.float32)
        if self._settings.channels == 1:
            frames = (frames @ _GREY)[..., None]
        return np.ascontiguousarray(frames.transpose(0, 3, 1, 2))

    def _scaled(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        mean, std = self._settings.mean, self._settings.std
        if mean is None or std is None:
            return frames
        shape = (-1, 1, 1)
        centre = np.array(mean, dtype=np.float32).reshape(shape)
        spread = np.array(std, dtype=np.float32).reshape(shape)
        return (frames / np.float32(_BYTE) - centre) / spread

    def _fitting(self, rows: NDArray[np.float32], *, path: Path) -> NDArray[np.float32]:
        self._require_fit(prod(rows.shape[1:]), path=path)
        return rows

    def _require_fit(self, values: int, *, path: Path) -> None:
        if values != self._feature_size:
            raise DataError(
                f"{path} has {values} values a frame (channels x height x width), model.feat_dim "
                f"is {self._feature_size}",
                hint="set width, height and channels in processor.modality_kwargs so that their "
                "product is model.feat_dim, or give the model a feature extractor",
            )
