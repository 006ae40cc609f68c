import io
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
from pose_format import Pose

from mmrun.workflows.demo_kinds.movements import GESTURES, POINTS, movement_samples
from mmrun.workflows.demo_kinds.sample import Sample


def first_poses(*, seed: int = 0) -> Sequence[Sample]:
    return [sample for _, sample in islice(movement_samples(seed=seed), 40)]


@pytest.fixture(scope="module")
def poses() -> Sequence[Sample]:
    return first_poses()


def read(sample: Sample) -> Pose:
    assert isinstance(sample.signal, bytes)
    return Pose.read(io.BytesIO(sample.signal))


def test_each_gesture_lasts_for_eight_to_fourteen_frames(poses: Sequence[Sample]) -> None:
    for sample in poses:
        gestures = sample.output.split()
        frames, persons, points, values = read(sample).body.data.shape

        assert {*gestures} <= {*GESTURES}
        assert 8 * len(gestures) <= frames <= 14 * len(gestures)
        assert (persons, points, values) == (1, len(POINTS), 2)


def test_only_the_head_moves_far_when_it_is_shaken(poses: Sequence[Sample]) -> None:
    shaking = next(sample for sample in poses if sample.output.startswith("shake"))
    body = np.asarray(read(shaking).body.data)[:8, 0]
    width = np.linalg.norm(body[0, POINTS.index("RShoulder")] - body[0, POINTS.index("LShoulder")])

    moved = dict(zip(POINTS, np.ptp(body[..., 0], axis=0) / width, strict=True))

    assert moved["Nose"] > 0.25
    assert all(moved[name] < 0.15 for name in POINTS if name != "Nose")


def test_persons_differ_in_size(poses: Sequence[Sample]) -> None:
    shoulders = [
        np.asarray(read(sample).body.data)[
            0, 0, [POINTS.index("RShoulder"), POINTS.index("LShoulder")], 0
        ]
        for sample in poses
    ]
    widths = [left - right for right, left in shoulders]

    assert max(widths) > 1.5 * min(widths)


def test_the_seed_decides_the_bytes_of_a_pose(poses: Sequence[Sample]) -> None:
    assert first_poses() == poses
    assert first_poses(seed=1) != poses
