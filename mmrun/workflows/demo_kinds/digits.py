"""Rows of real handwritten digits: as features, as pictures, and as short videos."""

import io
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal

from mmrun.config.schema import SPLITS, Split
from mmrun.errors import PluginError
from mmrun.workflows.demo_kinds.sample import WORDS, Sample, Samples, require_package

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Digits = NDArray[np.float64]
    Frames = NDArray[np.uint8]

DigitKind = Literal["features", "images", "video"]
ROWS: Mapping[Split, int] = {"train": 2000, "validation": 200, "test": 200}
VIDEO_ROWS: Mapping[Split, int] = {"train": 1500, "validation": 100, "test": 100}
SIDE = 32
"""Width and height of a video."""
FPS = 25

_SHARES: Mapping[Split, float] = {"train": 0.84, "validation": 0.08, "test": 0.08}
_DARKEST = 16
_LENGTHS: Mapping[DigitKind, tuple[int, int]] = {
    "features": (2, 5),
    "images": (2, 5),
    "video": (2, 4),
}
_ON_VIEW = (3, 5)
"""For how many frames a digit is shown."""
_ENLARGED = 3
_ASIDE = 1
"""By how many pixels a digit lies beside the middle, apart from its motion."""
_BRIGHTEST = 255
_QUALITY = {"qscale": "2", "flags": "+bitexact"}


def digit_samples(kind: DigitKind, *, seed: int) -> Samples:
    """Yield sequences of digits; no picture of a digit is in two splits."""
    pixels, labels = _digits()
    chance = random.Random(seed)
    if kind == "video":
        require_package("av", extra="video")
    # A generator of its own, so that what is random in a video changes no other kind.
    encoded = partial(_ENCODED[kind], chance=random.Random(seed))
    rows = VIDEO_ROWS if kind == "video" else ROWS
    for split, pool in _pools(len(labels), chance=chance).items():
        dealt = _dealt(pool, chance=chance)
        for _ in range(rows[split]):
            chosen = list(islice(dealt, chance.randint(*_LENGTHS[kind])))
            yield (
                split,
                Sample(
                    signal=encoded(pixels[chosen] / _DARKEST),
                    suffix=_SUFFIXES[kind],
                    output=" ".join(WORDS[labels[index]] for index in chosen),
                ),
            )


def _digits() -> "tuple[Digits, Sequence[int]]":
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise PluginError(
            f"the demo data needs the package {error.name!r}", hint="pip install 'mmrun[demo]'"
        ) from error
    found = load_digits()
    return found.images, found.target.tolist()


def _pools(count: int, *, chance: random.Random) -> dict[Split, list[int]]:
    """Deal the digit images out to the splits: none is in two."""
    shuffled = list(range(count))
    chance.shuffle(shuffled)
    pools: dict[Split, list[int]] = {}
    for split in SPLITS:
        size = round(count * _SHARES[split])
        pools[split], shuffled = shuffled[:size], shuffled[size:]
    return pools


def _dealt(pool: Sequence[int], *, chance: random.Random) -> Iterator[int]:
    """Yield the images of a split for ever, each as often as the others."""
    while True:
        yield from chance.sample(pool, k=len(pool))


def _as_features(shares: "Digits", *, chance: random.Random) -> bytes:  # noqa: ARG001 (as the others)
    """Return the digits ``[T, 8, 8]`` as a ``[T, 64]`` array."""
    import numpy as np

    content = io.BytesIO()
    np.save(content, shares.reshape(len(shares), -1).astype(np.float32))
    return content.getvalue()


def _as_picture(shares: "Digits", *, chance: random.Random) -> bytes:  # noqa: ARG001 (as the others)
    """Return the digits side by side, as a PNG file."""
    import numpy as np
    from PIL import Image

    content = io.BytesIO()
    picture = np.concatenate(list(_as_bytes(shares)), axis=1)
    Image.fromarray(picture).save(content, format="PNG")
    return content.getvalue()


def _as_video(shares: "Digits", *, chance: random.Random) -> bytes:
    """Return the digits one after the other, drifting to the left, as an MP4 file."""
    import numpy as np

    frames = []
    for digit in _as_bytes(shares):
        large = np.kron(digit, np.ones((_ENLARGED, _ENLARGED), dtype=np.uint8))
        room = SIDE - len(large)
        top, left = (room // 2 + chance.randint(-_ASIDE, _ASIDE) for _ in range(2))
        for moved in range(chance.randint(*_ON_VIEW)):
            frame = np.zeros((SIDE, SIDE), dtype=np.uint8)
            at = left + _ON_VIEW[1] // 2 - moved
            frame[top : top + len(large), at : at + len(large)] = large
            frames.append(frame)
    return _encoded(np.stack(frames))


def _encoded(frames: "Frames") -> bytes:
    """Encode grey frames; one thread and no versions in the file, so that its bytes are fixed."""
    import av

    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FPS, options=_QUALITY)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            grey = av.VideoFrame.from_ndarray(frame, format="gray")
            container.mux(stream.encode(grey.reformat(format="yuv420p")))
        container.mux(stream.encode())
    return content.getvalue()


def _as_bytes(shares: "Digits") -> "Frames":
    import numpy as np

    return np.rint(shares * _BRIGHTEST).astype(np.uint8)


_ENCODED = {"features": _as_features, "images": _as_picture, "video": _as_video}
_SUFFIXES: Mapping[DigitKind, str] = {"features": "npy", "images": "png", "video": "mp4"}
