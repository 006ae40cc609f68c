"""Changes of a training sample at random; all draws come from the sample's own generator."""

import numpy as np

from mmrun.modalities.base import Array, Augmentation


def in_turn(*changes: Augmentation | None) -> Augmentation | None:
    """Return one augmentation that does all ``changes``; None where there is none to do."""
    wanted = [change for change in changes if change is not None]
    if not wanted:
        return None

    def augment(signal: Array, random: np.random.Generator) -> Array:
        for change in wanted:
            signal = change(signal, random)
        return signal

    return augment


def frame_dropping(share: float) -> Augmentation | None:
    """Return what leaves out each frame with a probability of ``share``; one is always kept."""
    if not share:
        return None

    def drop(signal: Array, random: np.random.Generator) -> Array:
        kept = random.random(len(signal)) >= share
        kept[random.integers(len(signal))] |= not kept.any()
        return signal[kept]

    return drop


def noise(deviation: float) -> Augmentation | None:
    """Return what adds normally distributed noise with this standard deviation."""
    if not deviation:
        return None

    def add(signal: Array, random: np.random.Generator) -> Array:
        drawn = random.standard_normal(signal.shape, dtype=np.float32)
        return signal + np.float32(deviation) * drawn

    return add


def shift(pixels: int) -> Augmentation | None:
    """Return what moves an image ``[..., H, W]`` by up to so many pixels in each direction.

    What moves in is the colour of the border.
    """
    if not pixels:
        return None

    def move(image: Array, random: np.random.Generator) -> Array:
        height, width = image.shape[-2:]
        down, right = random.integers(2 * pixels + 1, size=2)
        border = [(0, 0)] * (image.ndim - 2) + [(pixels, pixels)] * 2
        wide = np.pad(image, border, mode="edge")
        return wide[..., down : down + height, right : right + width]

    return move
