"""Vectors of frames that a frozen encoder has seen before, so that it need not see them again."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

_BOOKKEEPING = 256
"""Bytes that an entry takes beside its vector, about."""


class VectorCache:
    """Keeps the vectors that were used last, by what is in their frames.

    A frame that is missing goes through the encoder alone: what comes out must not depend on which
    others are missing, or a resume, which begins with nothing, would not be exact.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._vectors: OrderedDict[bytes, Tensor] = OrderedDict()

    def __len__(self) -> int:
        """Return how many vectors there are."""
        return len(self._vectors)

    def vectors(self, frames: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a vector for each of ``frames``; ``encode`` makes those that are not here."""
        kind = _precision(frames)
        plain = frames.detach().cpu().contiguous()
        keys = [
            hashlib.blake2b(_bytes(frame), digest_size=16, key=kind).digest() for frame in plain
        ]
        found = [self._one(key, frames[row, None], encode) for row, key in enumerate(keys)]
        return torch.stack(found).to(frames.device)

    def _one(self, key: bytes, frame: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        known = self._vectors.get(key)
        if known is not None:
            self._vectors.move_to_end(key)
            return known
        vector = encode(frame)[0].detach().cpu()
        self._vectors[key] = vector
        self._bytes += vector.nbytes + _BOOKKEEPING
        while self._bytes > self._limit:
            _, oldest = self._vectors.popitem(last=False)
            self._bytes -= oldest.nbytes + _BOOKKEEPING
        return vector


def _precision(frames: Tensor) -> bytes:
    """Return what the numbers of an encoder depend on besides the frame."""
    device = frames.device.type
    mixed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return f"{device} {frames.dtype} {mixed}".encode()


def _bytes(frame: Tensor) -> bytes:
    return frame.view(torch.uint8).numpy().tobytes()
