"""A skeleton of the upper body that moves: sequences of gestures, as `.pose` files."""

import io
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import pi
from typing import TYPE_CHECKING, Any

from mmrun.config.schema import Split
from mmrun.workflows.demo_kinds.sample import Sample, Samples, require_package, sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Path = Callable[[Floats], Floats]

ROWS: Mapping[Split, int] = {"train": 1200, "validation": 150, "test": 150}
POINTS = (
    "Nose", "Neck",
    "RShoulder", "RElbow", "RWrist",
    "LShoulder", "LElbow", "LWrist",
)  # fmt: skip
COMPONENT = "pose_keypoints_2d"
"""As OpenPose calls them, so that the tools for poses know where the shoulders are."""
FPS = 25
SIZE = 512

_LENGTHS = (2, 4)
_LASTS = (8, 14)
"""How many frames a gesture takes; the way to the next one is a part of it."""
_TRANSITION = 3
_NOISE = 0.02
"""Of every coordinate, in widths of the shoulders."""
_TALL = (60.0, 140.0)
_LIMBS = ((1, 0), (1, 2), (2, 3), (3, 4), (1, 5), (5, 6), (6, 7))
_REST: Mapping[str, tuple[float, float]] = {
    "Nose": (0.0, -0.55), "Neck": (0.0, 0.0),
    "RShoulder": (-0.5, 0.0), "RWrist": (-0.6, 1.3),
    "LShoulder": (0.5, 0.0), "LWrist": (0.6, 1.3),
}  # fmt: skip
"""In widths of the shoulders, from the neck, to the right and down."""


def movement_samples(*, seed: int) -> Samples:
    """Yield sequences of two to four gestures, by persons of different size, place and pace."""
    require_package("pose_format", extra="pose")
    import numpy as np

    chance, noise = random.Random(f"{seed} persons"), np.random.default_rng(seed)
    for split, gestures in sentences(tuple(GESTURES), rows=ROWS, lengths=_LENGTHS, seed=seed):
        points = _performed(gestures, chance=chance)
        points += noise.normal(scale=_NOISE, size=points.shape)
        tall = chance.uniform(*_TALL)
        place = (chance.uniform(0.35, 0.65) * SIZE, chance.uniform(0.3, 0.5) * SIZE)
        pose = _written(points * tall + place)
        yield split, Sample(signal=pose, suffix="pose", output=" ".join(gestures))


def _performed(gestures: Sequence[str], *, chance: random.Random) -> "Floats":
    """Return where the points are in each frame, ``[T, points, 2]``."""
    import numpy as np

    frames: list[Floats] = []
    before = _body({})
    for gesture in gestures:
        phase = np.linspace(0, 1, chance.randint(*_LASTS))
        reach = chance.uniform(0.85, 1.15)
        moving = {name: path(phase) * reach for name, path in GESTURES[gesture].items()}
        for number in range(len(phase)):
            after = _body({name: path[number] for name, path in moving.items()})
            share = min((number + 1) / _TRANSITION, 1.0)
            frames.append(before + share * (after - before))
        before = frames[-1]
    return np.stack(frames)


def _body(moved: "Mapping[str, Floats]") -> "Floats":
    """Return the points of a body at rest, with some of them elsewhere."""
    import numpy as np

    at = {name: np.asarray(place) for name, place in {**_REST, **moved}.items()}
    for side, outward in (("R", -0.25), ("L", 0.25)):
        middle = (at[f"{side}Shoulder"] + at[f"{side}Wrist"]) / 2
        at[f"{side}Elbow"] = middle + np.array([outward, 0.1])
    return np.stack([at[name] for name in POINTS])


def _written(points: "Floats") -> bytes:
    import numpy as np
    from pose_format import Pose
    from pose_format.numpy import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    body: Any = NumPyPoseBody(
        FPS, points[:, None].astype(np.float32), np.ones((len(points), 1, len(POINTS)), np.float32)
    )
    colours = [(0, 0, 255)] * len(_LIMBS)
    component = PoseHeaderComponent(COMPONENT, [*POINTS], [*_LIMBS], colours, "XYC")
    header = PoseHeader(0.2, PoseHeaderDimensions(SIZE, SIZE), [component])
    content = io.BytesIO()
    Pose(header, body).write(content)
    return content.getvalue()


def _to_and_fro(
    phase: "Floats", *, centre: tuple[float, float], by: tuple[float, float], times: float = 2
) -> "Floats":
    import numpy as np

    swing = np.sin(2 * pi * times * phase)[:, None] * np.asarray(by)
    places: Floats = np.asarray(centre) + swing
    return places


def _round(phase: "Floats", *, centre: tuple[float, float], radius: float) -> "Floats":
    import numpy as np

    turn = 2 * pi * phase
    places: Floats = np.asarray(centre) + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return places


def _straight(phase: "Floats", *, start: tuple[float, float], end: tuple[float, float]) -> "Floats":
    import numpy as np

    way = np.asarray(end) - np.asarray(start)
    places: Floats = np.asarray(start) + phase[:, None] * way
    return places


GESTURES: "Mapping[str, Mapping[str, Path]]" = {
    "wave": {"RWrist": partial(_to_and_fro, centre=(-0.8, -0.8), by=(0.3, 0.0))},
    "circle": {"RWrist": partial(_round, centre=(-0.7, 0.3), radius=0.4)},
    "lift": {
        "RWrist": partial(_straight, start=(-0.5, 1.1), end=(-0.5, -0.9)),
        "LWrist": partial(_straight, start=(0.5, 1.1), end=(0.5, -0.9)),
    },
    "lower": {
        "RWrist": partial(_straight, start=(-0.5, -0.9), end=(-0.5, 1.1)),
        "LWrist": partial(_straight, start=(0.5, -0.9), end=(0.5, 1.1)),
    },
    "clap": {
        "RWrist": partial(_to_and_fro, centre=(-0.25, 0.4), by=(0.2, 0.0)),
        "LWrist": partial(_to_and_fro, centre=(0.25, 0.4), by=(-0.2, 0.0)),
    },
    "drum": {
        "RWrist": partial(_to_and_fro, centre=(-0.35, 0.7), by=(0.0, 0.3)),
        "LWrist": partial(_to_and_fro, centre=(0.35, 0.7), by=(0.0, -0.3)),
    },
    "point": {"LWrist": partial(_straight, start=(1.2, 0.1), end=(1.6, 0.0))},
    "cross": {
        "RWrist": partial(_straight, start=(-0.2, 0.6), end=(0.4, 0.4)),
        "LWrist": partial(_straight, start=(0.2, 0.6), end=(-0.4, 0.4)),
    },
    "nod": {"Nose": partial(_to_and_fro, centre=(0.0, -0.5), by=(0.0, 0.15))},
    "shake": {"Nose": partial(_to_and_fro, centre=(0.0, -0.55), by=(0.2, 0.0))},
}
"""Where some points go while a gesture lasts, of which phase is the share that is over."""
