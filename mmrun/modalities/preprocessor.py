"""An image or video processor of transformers, as a function from frames to what a model reads."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmrun.errors import ConfigError, PluginError
from mmrun.hub import Pretrained, pretrained

Pixels = NDArray[np.uint8]
"""A frame, ``[H, W, 3]``: red, green, blue."""

_KEY = "processor.modality_kwargs.custom_preprocessor_path"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
_LEVELS = 256
_CHANNELS = 3
_FRAME_AXES = 4


class Preprocessor:
    """The processor in a folder, or of that name on the hub.

    Most scale and shift each pixel by itself, and take more time for that than for all else. Where
    that is so, the 256 values of a channel are asked for once and then looked up.
    """

    def __init__(self, name: str) -> None:
        found = pretrained(name, key=_KEY)
        self._name = name
        self._videos = _is_for_videos(found)
        self._processor = _loaded(found, name=name, videos=self._videos)
        self._levels = None if self._videos else self._found_levels()

    def __call__(self, frames: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return ``[T, C, H, W]``, one for each frame."""
        values = self._in_full(frames) if self._levels is None else self._looked_up(frames)
        if values.ndim != _FRAME_AXES or len(values) != len(frames):
            raise ConfigError(
                f"{_KEY}: {self._name}: made an array of the shape {list(values.shape)} of "
                f"{len(frames)} frames; it must be [frames, channels, height, width]",
                hint="name a processor that makes one image of each frame",
            )
        return values

    def _in_full(self, frames: Sequence[Pixels]) -> NDArray[np.float32]:
        return np.ascontiguousarray(self._made(frames), dtype=np.float32)

    def _looked_up(self, frames: Sequence[Pixels]) -> NDArray[np.float32]:
        pixels = self._made(frames, do_rescale=False, do_normalize=False, do_convert_rgb=False)
        values = np.empty(pixels.shape, dtype=np.float32)
        # Plane by plane: twice as fast as a channel of all frames, which lies scattered.
        for frame, made in zip(pixels, values, strict=True):
            for levels, plane, out in zip(self._levels or (), frame, made, strict=True):
                np.take(levels, plane, out=out, mode="clip")
        return values

    def _made(self, frames: Sequence[Pixels], **switches: bool) -> "np.ndarray[Any, Any]":
        given = {"videos": [np.stack(frames)]} if self._videos else {"images": list(frames)}
        made = self._processor(
            **given, **switches, input_data_format="channels_last", return_tensors="pt"
        )
        key = "pixel_values_videos" if "pixel_values_videos" in made else "pixel_values"
        values: np.ndarray[Any, Any] = made[key].numpy()
        return values[0] if values.ndim == _FRAME_AXES + 1 else values

    def _found_levels(self) -> list[NDArray[np.float32]] | None:
        """Return what becomes of each level in each channel; None where that is not all.

        Random pictures tell: those that are looked up must be the same, bit for bit.
        """
        ramp = np.arange(_LEVELS, dtype=np.uint8).reshape(16, 16, 1).repeat(_CHANNELS, axis=2)
        probe = np.random.default_rng(0).integers(0, _LEVELS, (2, 45, 60, 3), dtype=np.uint8)
        try:
            with warnings.catch_warnings(action="error"):  # such as: not an argument of this one
                expected = self._in_full(list(probe))
                made = self._made([ramp], do_resize=False, do_center_crop=False)
                self._levels = list(made.astype(np.float32).reshape(_CHANNELS, _LEVELS))
                same = np.array_equal(self._looked_up(list(probe)), expected)
        except (Warning, TypeError, ValueError, LookupError, RuntimeError):
            return None
        return self._levels if same else None


def _is_for_videos(found: Pretrained) -> bool:
    """Tell a folder that holds nothing but a video processor."""
    folder = Path(found.source)
    return (folder / "video_preprocessor_config.json").is_file() and not any(
        (folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json")
    )


def _loaded(found: Pretrained, *, name: str, videos: bool) -> Any:
    import transformers

    kind: Any = transformers.AutoVideoProcessor if videos else transformers.AutoImageProcessor
    # Pillow's numbers are the same whether or not torchvision is installed.
    how = {} if videos else {"backend": "pil"}
    try:
        return kind.from_pretrained(found.source, local_files_only=found.local_files_only, **how)
    except ImportError as error:
        raise PluginError(
            f"{_KEY}: {name}: needs a package that is not installed: {_first_line(error)}",
            hint="install it (pip install torchvision), or name an image processor",
        ) from error
    except _UNREADABLE as error:
        raise ConfigError(
            f"{_KEY}: {name}: {found.why_not}",
            hint="name a folder with the preprocessor_config.json of an image or video processor",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
