"""Features that were extracted beforehand: one `.npy` file a sample, ``[T, D]``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.augmentation import frame_dropping, in_turn, noise
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    Span,
    read_settings,
)

_CACHE_BYTES = 256 * 2**20


class FeaturesSettings(Settings):
    """What ``processor.modality_kwargs`` may say about features."""

    skip_frames_stride: PositiveInt | None = None
    """Keep every n-th frame."""
    temporal_dimension_position: int = Field(default=0, ge=-2, le=1)
    """Which axis of the file is time."""
    use_cache: bool = True
    """Keep what was loaded in memory: up to 256 MiB in every process that loads."""
    frame_dropping: float = Field(default=0.0, ge=0, lt=1)
    """In training: the share of the frames that are left out at random."""
    noise: NonNegativeFloat = 0.0
    """In training: the standard deviation of the noise that is added."""


class FeaturesModality:
    """Loads ``[T, D]`` arrays; spans are frame numbers."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        if model.extracted:
            raise ConfigError(
                "model.feature_extractor_type: features are extracted already",
                hint="remove the feature extractor from the model section",
            )
        self._settings = read_settings(FeaturesSettings, settings)
        self._feature_size = model.feature_size
        self._cache: dict[tuple[Path, Span], Array] = {}
        self._room = _CACHE_BYTES if self._settings.use_cache else 0

    def length(self, signal: Signal) -> int:
        """Return the number of frames."""
        return len(self.load(signal))

    def load(self, signal: Signal) -> Array:
        """Return the frames of the span, ``[T, D]``."""
        path, span = signal.path, signal.span
        cached = self._cache.get((path, span))
        if cached is not None:
            return cached
        frames = self._cut(self._read(path), path=path, span=span)
        if not np.isfinite(frames).all():
            raise DataError(
                f"{path} holds NaN or infinite values", hint="extract these features again"
            )
        if frames.nbytes <= self._room:
            self._room -= frames.nbytes
            self._cache[path, span] = frames
        frames.flags.writeable = False  # it may be handed out again
        return frames

    def augmentation(self) -> Augmentation | None:
        """Return what the settings ask for."""
        wanted = self._settings
        return in_turn(frame_dropping(wanted.frame_dropping), noise(wanted.noise))

    def _read(self, path: Path) -> "np.ndarray[Any, Any]":
        try:
            array = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise DataError(f"there is no file {path}", hint="correct the column signal") from error
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path} cannot be read: it is not a whole .npy file of numbers",
                hint="write it again with numpy.save",
            ) from error
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
            raise DataError(
                f"{path} does not hold numbers", hint="write it with numpy.save, as float32"
            )
        return array

    def _cut(self, array: "np.ndarray[Any, Any]", *, path: Path, span: Span) -> Array:
        if array.ndim != 2:  # noqa: PLR2004 (time and values)
            raise DataError(
                f"{path} has the shape {list(array.shape)}; it must be [frames, values]",
                hint="store one row of values a frame",
            )
        array = np.moveaxis(array, self._settings.temporal_dimension_position, 0)
        total, size = array.shape
        if size != self._feature_size:
            raise DataError(
                f"{path} has {size} values a frame, model.feat_dim is {self._feature_size}",
                hint=f"set model.feat_dim to {size}, or extract the features again",
            )
        end = total if span.end is None else span.end
        if not span.start < end <= total:
            raise DataError(
                f"{path} has {total} frames, none of the span {span.start} to {end}"
                if span.start >= total
                else f"{path} has {total} frames, the span ends at {end}",
                hint="signal_start and signal_end are frame numbers; 0 and 0 mean all",
            )
        chosen = array[span.start : end : self._settings.skip_frames_stride or 1]
        return np.ascontiguousarray(chosen, dtype=np.float32)
