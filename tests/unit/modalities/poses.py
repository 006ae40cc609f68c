"""Pose files as MediaPipe's holistic model makes them, with points at random places."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pose_format import Pose, PoseHeader
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

BODY = (  # noqa: SIM905 (33 lines would not be easier to read)
    "NOSE LEFT_EYE_INNER LEFT_EYE LEFT_EYE_OUTER RIGHT_EYE_INNER RIGHT_EYE RIGHT_EYE_OUTER "
    "LEFT_EAR RIGHT_EAR MOUTH_LEFT MOUTH_RIGHT LEFT_SHOULDER RIGHT_SHOULDER LEFT_ELBOW RIGHT_ELBOW "
    "LEFT_WRIST RIGHT_WRIST LEFT_PINKY RIGHT_PINKY LEFT_INDEX RIGHT_INDEX LEFT_THUMB RIGHT_THUMB "
    "LEFT_HIP RIGHT_HIP LEFT_KNEE RIGHT_KNEE LEFT_ANKLE RIGHT_ANKLE LEFT_HEEL RIGHT_HEEL "
    "LEFT_FOOT_INDEX RIGHT_FOOT_INDEX"
).split()
HAND = ["WRIST", *(f"THUMB_{joint}" for joint in ("CMC", "MCP", "IP", "TIP"))] + [
    f"{finger}_{joint}"
    for finger in ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
    for joint in ("MCP", "PIP", "DIP", "TIP")
]
HOLISTIC = {
    "POSE_LANDMARKS": BODY,
    "FACE_LANDMARKS": [str(number) for number in range(468)],
    "LEFT_HAND_LANDMARKS": HAND,
    "RIGHT_HAND_LANDMARKS": HAND,
    "POSE_WORLD_LANDMARKS": BODY,
}


def written(
    path: Path,
    data: "np.ndarray[Any, Any]",
    confidence: "np.ndarray[Any, Any]",
    *,
    skeleton: Mapping[str, Sequence[str]],
    fps: float = 25.0,
) -> Path:
    form = "XYZC" if data.shape[-1] == 3 else "XYC"
    parts = [
        PoseHeaderComponent(name, list(points), [(0, 1)], [(255, 0, 0)], form)
        for name, points in skeleton.items()
    ]
    header = PoseHeader(0.2, PoseHeaderDimensions(1000, 1000, 1000), parts)
    body = NumPyPoseBody(fps, data.astype(np.float32), confidence.astype(np.float32))
    with path.open("wb") as file:
        Pose(header, body).write(file)
    return path


def random_pose(
    path: Path,
    *,
    skeleton: Mapping[str, Sequence[str]] = HOLISTIC,
    frames: int = 10,
    people: int = 1,
    fps: float = 25.0,
    dimensions: int = 3,
) -> Path:
    """Write points at random places, a fifth of them not seen; the facts below are of these."""
    points, random = sum(map(len, skeleton.values())), np.random.default_rng(0)
    data = random.uniform(0, 1000, (frames, people, points, dimensions)).astype(np.float32)
    confidence = random.uniform(0.1, 1, (frames, people, points)).astype(np.float32)
    confidence[random.random(confidence.shape) < 0.2] = 0
    return written(path, data, confidence, skeleton=skeleton, fps=fps)
