"""Image processors of Hugging Face, by path; transformers is imported when one is loaded."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmrun.errors import ConfigError
from mmrun.hub import pretrained

Pixels = NDArray[np.float32]
Preprocess = Callable[[Sequence[Image.Image]], Pixels]
"""From images to ``[N, C, H, W]``."""

Grey = NDArray[np.uint8]

_KEY = "processor.modality_kwargs.custom_preprocessor_path"
_LEVELS = 256
_AXES = 4


def load_preprocessor(name: str) -> Preprocess:
    """Return the image processor in a folder, or on the hub where there is one.

    It computes with Pillow and NumPy, also where torchvision is installed: then it gives the same
    numbers everywhere.
    """
    from transformers import AutoImageProcessor

    found = pretrained(name, key=_KEY)
    try:
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            found.source, backend="pil", local_files_only=found.local_files_only
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ConfigError(
            f"{_KEY}: {name}: {found.why_not}",
            hint="name a folder that holds the preprocessor_config.json of an image processor",
        ) from error

    def preprocess(images: Sequence[Image.Image]) -> Pixels:
        values = processor(images=list(images), return_tensors="np")
        pixels = np.asarray(values.get("pixel_values", 0), dtype=np.float32)
        if pixels.ndim != _AXES or len(pixels) != len(images):
            raise ConfigError(
                f"{_KEY}: {name}: {type(processor).__name__} does not make [channels, height, "
                "width] of an image",
                hint="name an image processor that does, such as the one of CLIP or ViT",
            )
        return pixels

    return preprocess


def table_of(preprocess: Preprocess, *, width: int, height: int) -> Pixels | None:
    """Return ``[C, 256]``, what a processor makes of each grey level; None where it is no table.

    It is one where an image of this size is neither resized nor cropped, only scaled and
    normalized. Then looking up is several times as fast as processing, with the same numbers.
    """
    if width * height < _LEVELS:
        return None
    ramp = np.resize(np.arange(_LEVELS, dtype=np.uint8), (height, width))
    noise = np.random.default_rng(0).integers(_LEVELS, size=ramp.shape, dtype=np.uint8)
    made, wanted = preprocess([Image.fromarray(grey).convert("RGB") for grey in (ramp, noise)])
    if made.shape[1:] != ramp.shape:
        return None
    table = made.reshape(len(made), -1)[:, :_LEVELS].copy()
    return table if np.array_equal(looked_up(table, noise), wanted) else None


def looked_up(table: Pixels, grey: Grey) -> Pixels:
    """Return ``[C, ...]``: for each grey level what stands in the table."""
    return np.take(table, grey, axis=1)


class GreyImages:
    """Makes of grey images of one size what the model takes."""

    def __init__(
        self, *, table: Pixels | None = None, preprocess: Preprocess | None = None
    ) -> None:
        self._table = table
        self._preprocess = preprocess

    @classmethod
    def processed(cls, preprocess: Preprocess, *, width: int, height: int) -> Self:
        """Let an image processor do it, or a table with its numbers where there is one."""
        table = table_of(preprocess, width=width, height=height)
        return cls(table=table, preprocess=preprocess)

    def __call__(self, grey: Grey) -> Pixels:
        """Return ``[N, C, H, W]`` of grey levels ``[N, H, W]``."""
        if self._table is not None:
            return np.ascontiguousarray(looked_up(self._table, grey).swapaxes(0, 1))
        assert self._preprocess is not None  # noqa: S101 (one of the two is given)
        return self._preprocess([Image.fromarray(image).convert("RGB") for image in grey])


def scaled_levels(channels: int) -> Pixels:
    """Return the table that makes numbers from 0 to 1 of grey levels."""
    levels = np.arange(_LEVELS, dtype=np.float32) / np.float32(_LEVELS - 1)
    return np.tile(levels, (channels, 1))
