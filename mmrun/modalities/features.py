"""Features that were extracted beforehand: one array ``[T, D]`` a sample."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
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
from mmrun.modalities.spans import frames_of_span
from mmrun.modalities.stored import Stored, stored_array


class FeaturesSettings(Settings):
    """What ``processor.modality_kwargs`` may say about features."""

    skip_frames_stride: PositiveInt | None = None
    """Keep every n-th frame."""
    temporal_dimension_position: int = Field(default=0, ge=-2, le=1)
    """Which axis of the file is time."""
    array_key: str | None = None
    """Which array, in files that hold several."""
    signal_start_end_unit: Unit = "frames"
    """What spans are given in; milliseconds need ``fps``."""
    fps: PositiveFloat | None = None
    """How many frames a second the files have."""
    frame_dropping: float = Field(default=0.0, ge=0, lt=1)
    """In training: the share of the frames that are left out at random."""
    noise: NonNegativeFloat = 0.0
    """In training: the standard deviation of the noise that is added."""

    without_effect: ClassVar[Mapping[str, str]] = {
        "use_cache": "data.cache decides what is kept in memory or on disk",
    }

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.signal_start_end_unit == "milliseconds" and self.fps is None:
            raise ValueError("spans in milliseconds need fps, the frames a second of the files")
        if self.signal_start_end_unit == "frames" and self.fps is not None:
            raise ValueError("fps is for spans in milliseconds: set signal_start_end_unit, too")
        return self


class FeaturesModality:
    """Loads ``[T, D]`` arrays from NumPy, torch or safetensors."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        if model.extracted:
            raise ConfigError(
                "model.feature_extractor_type: features are extracted already",
                hint="remove the feature extractor from the model section",
            )
        self._settings = read_settings(FeaturesSettings, settings)
        self._feature_size = model.feature_size
        self._time = self._settings.temporal_dimension_position % 2

    def length(self, signal: Signal) -> int:
        """Return the number of frames, by the head of the file."""
        return len(self._frames(self._stored(signal.path), signal=signal))

    def load(self, signal: Signal) -> Array:
        """Return the frames of the span, ``[T, D]``."""
        stored = self._stored(signal.path)
        wanted = self._frames(stored, signal=signal)
        index = [slice(None), slice(None)]
        index[self._time] = slice(wanted.start, wanted.stop, wanted.step)
        part = stored.read(tuple(index))
        frames = np.ascontiguousarray(part.T) if self._time else part
        finite = np.isfinite(frames)
        if not finite.all():
            first = wanted[int(np.argmin(finite.all(axis=1)))]
            raise DataError(
                f"{signal.path} holds NaN or infinite values, first in frame {first}",
                hint="extract these features again",
            )
        return frames

    def augmentation(self) -> Augmentation | None:
        """Return what the settings ask for."""
        wanted = self._settings
        return in_turn(frame_dropping(wanted.frame_dropping), noise(wanted.noise))

    def _frames(self, stored: Stored, *, signal: Signal) -> range:
        wanted = self._settings
        return frames_of_span(
            signal.span,
            total=stored.shape[self._time],
            path=signal.path,
            unit=wanted.signal_start_end_unit,
            fps=wanted.fps,
            stride=wanted.skip_frames_stride or 1,
        )

    def _stored(self, path: Path) -> Stored:
        stored = stored_array(path, key=self._settings.array_key)
        if len(stored.shape) != 2:  # noqa: PLR2004 (time and values)
            raise DataError(
                f"{path} has the shape {list(stored.shape)}; it must be [frames, values]",
                hint="store one row of values a frame",
            )
        size = stored.shape[1 - self._time]
        if size != self._feature_size:
            raise DataError(
                f"{path} has {size} values a frame, model.feat_dim is {self._feature_size}",
                hint=f"set model.feat_dim to {size}, or extract the features again",
            )
        return stored
