"""Pictures in files: PNG, JPEG, BMP, TIFF, WebP and what else Pillow reads, and `.npy`."""

import errno
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from mmrun.errors import DataError
from mmrun.modalities.base import Array

Picture = NDArray[np.uint8] | Array
Sizing = Callable[[int, int], tuple[int, int]]
"""From the width and height of a picture to those that it is brought to."""
SUFFIXES = frozenset({".npy", ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
"""What a name that ends so is the name of."""

_BYTE = 255.0
_SHORT = 65535.0
_AXES = 3
_WIDE = ("I", "F")
"""Modes of Pillow that have more than a byte a pixel."""
_PORTABLE = "PPM"
"""The format whose grey images Pillow brings to 16 bits, and then calls plain integers."""
_ON_ITS_SIDE = range(5, 9)
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    Image.DecompressionBombError,
)
"""What Pillow and NumPy raise on files that are cut off, of another kind, or absurdly large."""


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height, by the head of the file."""
    try:
        if path.suffix.lower() == ".npy":
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            height, width, _ = _shape(shape, path=path)
            return width, height
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
            return (image.height, image.width) if turned else image.size
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def read_picture(path: Path, *, channels: int, sizing: Sizing) -> Picture:
    """Return ``[H, W, C]``: bytes as they are, other numbers from 0 to 1.

    The channels are red, green, blue, or grey alone.
    """
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
            return _resized(_recoloured(_from_array(array, path=path), channels), sizing=sizing)
        with Image.open(path) as image:
            return _from_image(image, path=path, channels=channels, sizing=sizing)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    if getattr(error, "errno", None) in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
        return DataError(
            f"there is no file {path}",
            hint="correct the column signal; texts are drawn with modality_kwargs.font_path",
        )
    return DataError(
        f"{path} cannot be read: it is not a whole image (PNG, JPEG, BMP, TIFF, .npy)",
        hint="open it in an image viewer, and store it again",
    )


def _from_image(image: Image.Image, *, path: Path, channels: int, sizing: Sizing) -> Picture:
    upright = ImageOps.exif_transpose(image) if _turned(image) else image
    if upright.mode.startswith(_WIDE):  # Pillow would clip them to 8 bits, not scale them
        grey = np.asarray(upright, dtype=np.float32)[:, :, None]
        short = upright.mode.startswith("I;16") or image.format == _PORTABLE
        shares = grey / np.float32(_SHORT) if short else _require_shares(grey, path=path)
        return _resized(_recoloured(shares, channels), sizing=sizing)
    mode = "L" if channels == 1 else "RGB"
    coloured = upright if upright.mode == mode else upright.convert(mode)
    size = sizing(coloured.width, coloured.height)
    if size != coloured.size:
        coloured = coloured.resize(size, Image.Resampling.BILINEAR)
    pixels: Picture = np.asarray(coloured)
    return pixels.reshape(pixels.shape[0], pixels.shape[1], -1)


def _turned(image: Image.Image) -> bool:
    return bool(image.getexif().get(ExifTags.Base.Orientation, 1) != 1)


def _from_array(array: "np.ndarray[Any, Any]", *, path: Path) -> Array:
    """Take ``[H, W]``, ``[H, W, C]`` or ``[C, H, W]``: bytes, or numbers from 0 to 1."""
    shape = _shape(array.shape, path=path)
    first = array.ndim == _AXES and array.shape != shape
    pixels = (array.transpose(1, 2, 0) if first else array).reshape(shape)
    scaled = pixels.astype(np.float32) / np.float32(_BYTE if pixels.dtype == np.uint8 else 1)
    return _require_shares(scaled, path=path)


def _require_shares(pixels: Array, *, path: Path) -> Array:
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(
            f"{path} holds values outside 0 to 1",
            hint="store bytes (uint8), or numbers from 0 to 1",
        )
    return pixels


def _shape(shape: tuple[int, ...], *, path: Path) -> tuple[int, int, int]:
    """Return height, width and channels of an array."""
    if len(shape) not in {_AXES - 1, _AXES} or 0 in shape:
        raise DataError(
            f"{path} has the shape {list(shape)}; it must be [height, width, channels]",
            hint="store one image a file",
        )
    height, width, channels = (*shape, 1)[:_AXES]
    if channels not in {1, 3} and height in {1, 3}:
        height, width, channels = width, channels, height
    if channels not in {1, 3}:
        raise DataError(
            f"{path} has {channels} channels", hint="store 1 (grey) or 3 (RGB) channels"
        )
    return height, width, channels


def _recoloured(pixels: Array, channels: int) -> Array:
    if pixels.shape[2] == channels:
        return pixels
    if channels == 1:
        weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return np.asarray(pixels @ weights)[:, :, None]
    return np.repeat(pixels, channels, axis=2)


def _resized(pixels: Array, *, sizing: Sizing) -> Array:
    height, width = pixels.shape[:2]
    size = sizing(width, height)
    if size == (width, height):
        return pixels
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(pixels.transpose(2, 0, 1))
    ]
    return np.stack(planes, axis=2).astype(np.float32)
