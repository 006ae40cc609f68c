import io
from collections.abc import Sequence
from itertools import islice

import av
import numpy as np
import pytest

from mmrun.workflows.demo_kinds.digits import SIDE, digit_samples
from mmrun.workflows.demo_kinds.sample import Sample


def first_videos(*, seed: int = 0) -> Sequence[Sample]:
    return [sample for _, sample in islice(digit_samples("video", seed=seed), 8)]


@pytest.fixture(scope="module")
def videos() -> Sequence[Sample]:
    return first_videos()


def frames(video: Sample) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    assert isinstance(video.signal, bytes)
    with av.open(io.BytesIO(video.signal), "r") as container:
        return np.array([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


def test_each_digit_is_on_view_for_three_to_five_frames(videos: Sequence[Sample]) -> None:
    for video in videos:
        digits = len(video.output.split())

        assert 3 * digits <= len(frames(video)) <= 5 * digits


def test_a_digit_moves_while_it_is_on_view(videos: Sequence[Sample]) -> None:
    first, second = frames(videos[0])[:2].astype(int)

    assert first.shape == (SIDE, SIDE)
    assert np.abs(first[:, 1:] - second[:, :-1]).mean() < np.abs(first - second).mean() / 2


def test_the_seed_decides_the_bytes_of_a_video(videos: Sequence[Sample]) -> None:
    assert first_videos() == videos
    assert first_videos(seed=1) != videos
