"""Arrays in files: what the head of a file says, and the part of it that is wanted."""

import io
import math
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mmrun.errors import DataError

_USUAL = b"\x93NUMPY\x01\x00"
_BEGINNING = 10
"""Bytes before the head of an array: what it is, and how long the head is."""
_LONGEST = 2**16
Index = tuple[slice, ...]

_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,
    tokenize.TokenError,  # NumPy, of a head that is damaged
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An array in a file, not yet read."""

    shape: tuple[int, ...]
    read: Callable[[Index], NDArray[np.float32]]
    """Read a part of it, as an array of its own."""


def stored_array(path: Path, *, key: str | None = None) -> Stored:
    """Open what a file holds; ``key`` says which array, where it holds several."""
    opening = _FORMATS.get(path.suffix.lower())
    if opening is None:
        raise DataError(
            f"{path}: files of this kind are not read", hint=f"store {', '.join(_FORMATS)}"
        )
    try:
        return opening(path, key)
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", hint="correct the column signal") from error
    except _UNREADABLE as error:
        raise unreadable(path) from error


def unreadable(path: Path) -> DataError:
    """Return the error for a file that is cut off, or something else than its name says."""
    return DataError(
        f"{path} cannot be read: it is not a whole {path.suffix.lower()} file of numbers",
        hint="write it again, with numpy.save, torch.save or safetensors, as an array of float32",
    )


def _npy(path: Path, key: str | None) -> Stored:
    _require_no_key(key, path=path)
    with path.open("rb") as file:
        shape, fortran, dtype = _head(file)
        offset = file.tell()
        file.seek(0, 2)
        missing = math.prod(shape) * dtype.itemsize > file.tell() - offset
    _require_numbers(dtype, path=path)
    if missing:
        raise unreadable(path)

    def read(index: Index) -> NDArray[np.float32]:
        if fortran:
            # Mapped: of a file that is written by columns, rows are all over it.
            mapped = np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order="F")
            return np.array(mapped[index], dtype=np.float32, order="C")
        rows, *others = index
        start, stop, step = rows.indices(shape[0])
        size = math.prod(shape[1:])
        skipped = offset + start * size * dtype.itemsize
        part = np.fromfile(path, dtype, count=(stop - start) * size, offset=skipped)
        chosen = part.reshape(-1, *shape[1:])[(slice(None, None, step), *others)]
        return np.ascontiguousarray(chosen, dtype=np.float32)

    return Stored(shape=shape, read=read)


def _npz(path: Path, key: str | None) -> Stored:
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy"): name for name in archive.namelist()}
        name = names[_one_of(names, key=key, path=path)]
        try:
            with archive.open(name) as member:
                shape, _, dtype = _head(member)
        except RuntimeError as error:  # a password, or a way to compress that is not known
            raise unreadable(path) from error
    _require_numbers(dtype, path=path)

    def read(index: Index) -> NDArray[np.float32]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as member:
                array = npy.read_array(member, allow_pickle=False)
        except (*_UNREADABLE, RuntimeError) as error:
            raise unreadable(path) from error
        return np.array(array[index], dtype=np.float32, order="C")

    return Stored(shape=shape, read=read)


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    """Return shape, whether it is written by columns, and kind of number; read no further."""
    begun = file.read(_BEGINNING)
    size = _BEGINNING + int.from_bytes(begun[8:10], "little")
    if begun[:8] != _USUAL:
        size = _BEGINNING + 2 + int.from_bytes(begun[8:10] + file.read(2), "little")
        file.seek(_BEGINNING)
    if size > _LONGEST:
        raise ValueError("no head of an array")
    return _parsed(begun + file.read(size - _BEGINNING))


@lru_cache(maxsize=1024)
def _parsed(head: bytes) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    """Files of one length have the same head, and NumPy takes long to read it."""
    file = io.BytesIO(head)
    version = npy.read_magic(file)
    reading = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = reading(file)
    return shape, fortran, dtype


def _pt(path: Path, key: str | None) -> Stored:
    import torch

    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:  # a file that is missing is not one that is broken
            pickled = file.read(1) == pickle.PROTO
        old = "is a pickle, as torch before 1.6 wrote it"
        raise _no_tensors(path, what=old) if pickled else unreadable(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise _no_tensors(path, what="holds something else than tensors") from error
    except RuntimeError as error:  # a file that is cut off
        raise unreadable(path) from error
    if isinstance(held, dict):
        held = held[_one_of(held, key=key, path=path)]
    else:
        _require_no_key(key, path=path)
    if not isinstance(held, torch.Tensor) or not _plain(held):
        raise _no_numbers(path)
    tensor = held.detach()
    return Stored(
        shape=tuple(tensor.shape),
        read=lambda index: tensor[index].to(torch.float32, copy=True).contiguous().numpy(),
    )


def _no_tensors(path: Path, *, what: str) -> DataError:
    return DataError(
        f"{path} cannot be read: it {what}, and no code is run from files",
        hint="write it again: torch.save(torch.from_numpy(array), path)",
    )


def _plain(tensor: Any) -> bool:
    """Whether its numbers are there, and are what they say."""
    sparse = str(tensor.layout) != "torch.strided"
    return not (sparse or tensor.is_complex() or tensor.is_quantized or tensor.is_meta)


def _safetensors(path: Path, key: str | None) -> Stored:
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="pt")
        names = file.keys()  # type: ignore[no-untyped-call]
        part = file.get_slice(_one_of(names, key=key, path=path))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise unreadable(path) from error
    if part.get_dtype().startswith("C"):
        raise _no_numbers(path)
    return Stored(
        shape=tuple(part.get_shape()),
        read=lambda index: _strided(part, index).to(torch.float32).contiguous().numpy(),
    )


def _strided(part: Any, index: Index) -> Any:
    """Read a part of a tensor; the library knows no steps, they are taken afterwards."""
    whole = part[tuple(slice(one.start, one.stop) for one in index)]
    return whole[tuple(slice(None, None, one.step) for one in index)]


def _one_of(names: Collection[str], *, key: str | None, path: Path) -> str:
    """Return the array that is meant."""
    if key is None and len(names) == 1:
        return next(iter(names))
    if key is not None and key in names:
        return key
    held = ", ".join(map(str, sorted(names))) or "nothing"
    raise DataError(
        f"{path} holds {held}" if key is None else f"{path} holds no array {key!r}, but {held}",
        hint="name one of its arrays in processor.modality_kwargs.array_key",
    )


def _require_no_key(key: str | None, *, path: Path) -> None:
    if key is not None:
        raise DataError(
            f"{path} holds one array without a name, array_key is {key!r}",
            hint="remove array_key from processor.modality_kwargs, or store the arrays by name",
        )


def _require_numbers(dtype: "np.dtype[Any]", *, path: Path) -> None:
    if dtype.kind not in "fiub":
        raise _no_numbers(path)


def _no_numbers(path: Path) -> DataError:
    return DataError(f"{path} does not hold numbers", hint="store an array of float32")


_FORMATS: dict[str, Callable[[Path, str | None], Stored]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".pt": _pt,
    ".safetensors": _safetensors,
}
