# src/sound/modality.py
"""Waves: one `.npy` file of samples a row, cut into frames."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from mmrun.errors import DataError
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    read_settings,
)


class SoundSettings(Settings):
    """What processor.modality_kwargs may say; anything else is refused with the nearest match."""

    gain: float = 1.0
    jitter: float = 0.0


class SoundModality:
    """Loads waves as ``[frames, feature_size]``; spans are frame numbers."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        own = read_settings(SoundSettings, settings)
        self._gain, self._jitter = own.gain, own.jitter
        self._feature_size = model.feature_size

    def load(self, signal: Signal) -> Array:
        frames = self._frames(signal)
        if len(frames) == 0:
            raise DataError(f"{signal.path} has nothing in its span", hint="correct signal_start")
        return np.asarray(frames * self._gain, dtype=np.float32)

    def length(self, signal: Signal) -> int:
        return len(self._frames(signal))

    def _frames(self, signal: Signal) -> Array:
        wave: Array = np.load(signal.path, allow_pickle=False, mmap_mode="r")
        frames = wave[: len(wave) // self._feature_size * self._feature_size]
        return frames.reshape(-1, self._feature_size)[signal.span.start : signal.span.end]

    def augmentation(self) -> Augmentation | None:
        return self._softer if self._jitter else None

    def _softer(self, signal: Array, random: np.random.Generator) -> Array:
        return signal * np.float32(1 - self._jitter * random.random())
