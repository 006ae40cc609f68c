"""From grey images, all of one size, to what a model takes of them."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from mmrun.modalities.preprocessor import Preprocessor

Grey = NDArray[np.uint8]
"""Grey levels: ``[H, W]``, or ``[N, H, W]``."""
Pixels = NDArray[np.float32]

_LEVELS = 256


class GreyImages:
    """Makes of grey images what the model takes, by a table where one does."""

    def __init__(
        self, *, table: Pixels | None = None, preprocessor: Preprocessor | None = None
    ) -> None:
        self._table = table
        self._preprocessor = preprocessor

    @classmethod
    def processed(cls, preprocessor: Preprocessor, *, width: int, height: int) -> Self:
        """Let a processor do it, or a table with its numbers."""
        table = table_of(preprocessor, width=width, height=height)
        return cls(table=table, preprocessor=preprocessor)

    def __call__(self, images: Grey) -> Pixels:
        """Return ``[N, C, H, W]`` of ``[N, H, W]``."""
        if self._table is not None:
            return looked_up(self._table, images[:, None])
        assert self._preprocessor is not None  # noqa: S101 (one of the two is given)
        return self._preprocessor(_coloured(images))


def table_of(preprocessor: Preprocessor, *, width: int, height: int) -> Pixels | None:
    """Return ``[C, 256]``, what a processor makes of each grey level; None where it is no table.

    It is one where an image of this size is neither resized nor cropped, only scaled and
    normalized. Then looking up is several times as fast as processing, with the same numbers.
    """
    ramp = np.resize(np.arange(_LEVELS, dtype=np.uint8), (height, width))
    noise = np.random.default_rng(0).integers(_LEVELS, size=ramp.shape, dtype=np.uint8)
    made, wanted = preprocessor(_coloured(np.stack([ramp, noise])))
    if ramp.size < _LEVELS or made.shape[1:] != ramp.shape:
        return None
    table = made.reshape(len(made), -1)[:, :_LEVELS].copy()
    return table if np.array_equal(looked_up(table, noise[None]), wanted) else None


def looked_up(table: Pixels, planes: Grey) -> Pixels:
    """Return ``[..., C, H, W]``: for each level what the table ``[C, 256]`` has in its channel.

    Where there is one plane, ``[..., 1, H, W]``, it is that of all channels.
    """
    *outer, _, height, width = planes.shape
    made = np.empty((*outer, len(table), height, width), dtype=np.float32)
    for index in np.ndindex(*outer):
        for channel, levels in enumerate(table):
            plane = planes[index][channel % planes.shape[-3]]
            np.take(levels, plane, out=made[(*index, channel)], mode="clip")
    return made


def scaled_levels(channels: int) -> Pixels:
    """Return the table that makes numbers from 0 to 1 of grey levels."""
    levels = np.arange(_LEVELS, dtype=np.float32) / np.float32(_LEVELS - 1)
    return np.tile(levels, (channels, 1))


def _coloured(images: Grey) -> list[Grey]:
    """Return images of three equal colours, ``[H, W, 3]``."""
    return [np.repeat(image[:, :, None], 3, axis=2) for image in images]
