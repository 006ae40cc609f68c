import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pose_format.utils.openpose import OpenPose_Components

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.base import Array, ModelInput, Signal, Span
from mmrun.modalities.pose import PoseModality
from tests.unit.modalities.poses import BODY, random_pose, written

OPENPOSE = {part.name: part.points for part in OpenPose_Components}
STICK = {"stick": ["head", "hand", "foot"]}

HOLISTIC_SIZE = 534
STICK_SIZE = 6


def modality(size: int = HOLISTIC_SIZE, **settings: Any) -> PoseModality:
    return PoseModality(settings, model=ModelInput(feature_size=size))


def stick(path: Path, *, frames: int = 4, hole: bool = False, people: int = 1) -> Path:
    data = np.arange(frames * people * 6, dtype=np.float32).reshape(frames, people, 3, 2)
    confidence = np.ones((frames, people, 3))
    if hole:
        confidence[0, 0, 1], data[0, 0, 1] = 0, np.nan
    return written(path, data, confidence, skeleton=STICK)


def load(path: Path, span: Span | None = None, **settings: Any) -> Array:
    loader = modality(**settings)
    signal = Signal(text=str(path), span=span or Span())
    loaded = loader.load(signal)
    assert loader.length(signal) == len(loaded)
    return loaded


# What multimodalhugs 0.5.4 makes of the same files: shape, the first and the last values, the sum
# and the sum of the absolute values.
FACTS = [
    pytest.param(
        {}, {}, Span(),
        (10, 534), [0.0, 0.0, 0.0, 0.019711], [1.301535, -0.088352, -0.859354, -0.19408],
        -373.179679, 2854.480207, id="reduced",
    ),
    pytest.param(
        {}, {"size": 1728, "reduce_holistic_poses": False}, Span(),
        (10, 1728), [0.410583, -1.040333, -1.085396, 0.0], [0.0, 0.0, 0.0, 0.0],
        -1242.606115, 8986.641523, id="all points, legs hidden",
    ),
    pytest.param(
        {}, {"skip_frames_stride": 3}, Span(),
        (4, 534), [0.0, 0.0, 0.0, 0.019711], [1.301535, -0.088352, -0.859354, -0.19408],
        -143.676781, 1154.494394, id="every third frame",
    ),
    pytest.param(
        {"people": 2}, {}, Span(),
        (10, 534), [0.179517, -0.098076, -0.214455, -0.133404],
        [-0.521787, 0.304964, -0.179135, 0.079347],
        -249.238448, 1417.319849, id="the first of two people",
    ),
    pytest.param(
        {"frames": 30, "fps": 29.97}, {}, Span(start=210, end=615),
        (13, 534), [0.746463, 0.456585, 0.425656, 0.505043],
        [-0.734369, 0.46332, -0.058134, 0.065801],
        -144.93012, 2415.489085, id="a span in milliseconds",
    ),
    pytest.param(
        {"frames": 30, "fps": 29.97}, {"signal_start_end_unit": "frames"}, Span(start=3, end=9),
        (6, 534), [0.0, 0.0, 0.0, -0.437418], [0.0, 0.0, 0.0, 0.0],
        -568.830876, 1508.768321, id="a span in frames",
    ),
    pytest.param(
        {"skeleton": OPENPOSE, "dimensions": 2}, {"size": 274}, Span(),
        (10, 274), [0.356062, -0.40043, -1.015494, -0.983259],
        [-0.126055, 0.877691, -1.008441, 0.206705],
        151.444314, 1145.009863, id="OpenPose",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("made", "settings", "span", "shape", "first", "last", "total", "size"), FACTS
)
def test_values_equal_those_of_multimodalhugs(  # noqa: PLR0917 (facts, in columns)
    tmp_path: Path,
    made: dict[str, Any],
    settings: dict[str, Any],
    span: Span,
    shape: tuple[int, int],
    first: list[float],
    last: list[float],
    total: float,
    size: float,
) -> None:
    path = random_pose(tmp_path / "a.pose", **made)

    values = load(path, span, **settings)

    assert values.shape == shape
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0, :4], first, atol=1e-5)
    np.testing.assert_allclose(values[-1, -4:], last, atol=1e-5)
    assert values.sum(dtype=np.float64) == pytest.approx(total, abs=1e-3)
    assert np.abs(values).sum(dtype=np.float64) == pytest.approx(size, abs=1e-3)


def test_a_skeleton_of_ones_own_keeps_all_its_points(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose")

    values = load(path, size=STICK_SIZE, normalize=False)

    np.testing.assert_array_equal(values, np.arange(24).reshape(4, 6))


def test_a_skeleton_without_shoulders_is_centred_and_scaled_as_a_whole(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose")

    points = load(path, size=STICK_SIZE).reshape(-1, 2)

    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(points, axis=1).mean() == pytest.approx(1)


def test_a_point_that_was_not_seen_is_zero_whatever_the_file_holds(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose", hole=True)

    values = load(path, size=STICK_SIZE)

    np.testing.assert_array_equal(values[0, 2:4], [0, 0])


def test_legs_may_be_shown(tmp_path: Path) -> None:
    path = random_pose(tmp_path / "a.pose")
    knee = 3 * BODY.index("LEFT_KNEE")
    settings: dict[str, Any] = {"size": 1728, "reduce_holistic_poses": False, "normalize": False}

    shown, hidden = (load(path, hide_legs=hide, **settings) for hide in (False, True))

    assert (shown[:, knee] != hidden[:, knee]).any()
    assert (hidden[:, knee] == 0).all()


def test_several_people_are_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loader = modality(STICK_SIZE)
    for name in ("a.pose", "b.pose"):
        loader.length(Signal(text=str(stick(tmp_path / name, people=2))))

    assert [record.message.rpartition("/")[2] for record in caplog.records] == [
        "a.pose has 2 people: of each file, the first is taken"
    ]


def test_a_span_of_a_short_file_is_that_part_of_the_whole(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose", frames=9)
    settings: dict[str, Any] = {"size": STICK_SIZE, "normalize": False}

    part = load(path, Span(start=2, end=5), signal_start_end_unit="frames", **settings)

    np.testing.assert_array_equal(part, load(path, **settings)[2:5])


def test_an_older_version_of_the_format_is_read(tmp_path: Path) -> None:
    new, old = stick(tmp_path / "new.pose"), tmp_path / "old.pose"
    content = new.read_bytes()
    body = content.index(struct.pack("<fIH", 25.0, 4, 1))
    head = struct.pack("<f", 0.1) + content[4:body] + struct.pack("<HHH", 25, 4, 1)
    old.write_bytes(head + content[body + 10 :])

    span = Span(start=40, end=120)
    np.testing.assert_array_equal(
        load(old, span, size=STICK_SIZE), load(new, span, size=STICK_SIZE)
    )


def test_the_length_needs_only_the_head_of_the_file(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose")
    values = 4 * 3 * 3 * 4
    content = path.read_bytes()
    path.write_bytes(content[:-values] + b"\xff" * values)

    assert modality(STICK_SIZE, skip_frames_stride=2).length(Signal(text=str(path))) == 2


def test_a_version_that_is_not_read_is_refused(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose")
    path.write_bytes(struct.pack("<f", 0.0) + path.read_bytes()[4:])

    with pytest.raises(DataError, match=r"of version 0\.1 or 0\.2"):
        modality(STICK_SIZE).length(Signal(text=str(path)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(lambda whole: b"", "not a whole .pose file", id="empty"),
        pytest.param(lambda whole: b"no pose" * 99, "not a whole .pose file", id="another kind"),
        pytest.param(lambda whole: whole[:30], "not a whole .pose file", id="cut in the head"),
        pytest.param(lambda whole: whole[:-8], "not a whole .pose file", id="cut in the body"),
        pytest.param(lambda whole: b"\xff" * 99, "not a whole .pose file", id="bytes"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, content: Any, problem: str) -> None:
    path = stick(tmp_path / "a.pose")
    path.write_bytes(content(path.read_bytes()))

    with pytest.raises(DataError, match=rf"a\.pose cannot be read: it is {problem}"):
        modality(STICK_SIZE).load(Signal(text=str(path)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*gone\.pose"):
        modality().length(Signal(text="gone.pose", folder=tmp_path))


def test_another_number_of_values_is_refused_with_the_right_one(tmp_path: Path) -> None:
    path = stick(tmp_path / "a.pose")

    with pytest.raises(DataError, match=r"has 6 values a frame, model\.feat_dim is 534"):
        modality().length(Signal(text=str(path)))


@pytest.mark.parametrize(
    ("data", "confidence", "problem"),
    [
        pytest.param(np.full((2, 1, 3, 2), np.nan), np.ones((2, 1, 3)), "NaN or inf", id="NaN"),
        pytest.param(np.ones((2, 1, 3, 2)), np.zeros((2, 1, 3)), "no frame shows a", id="unseen"),
        pytest.param(np.ones((2, 1, 3, 2)), np.ones((2, 1, 3)), "lie at one place", id="a dot"),
        pytest.param(np.ones((0, 1, 3, 2)), np.ones((0, 1, 3)), "has 0 frames", id="no frame"),
        pytest.param(np.ones((2, 0, 3, 2)), np.ones((2, 0, 3)), "no person", id="nobody"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    tmp_path: Path,
    data: "np.ndarray[Any, Any]",
    confidence: "np.ndarray[Any, Any]",
    problem: str,
) -> None:
    path = written(tmp_path / "a.pose", data, confidence, skeleton=STICK)

    with pytest.raises(DataError, match=problem):
        modality(STICK_SIZE).load(Signal(text=str(path)))


def test_shoulders_that_are_never_seen_are_no_measure(tmp_path: Path) -> None:
    skeleton = {"POSE_LANDMARKS": BODY}
    data = np.random.default_rng(0).random((3, 1, 33, 3))
    confidence = np.ones((3, 1, 33))
    confidence[:, :, BODY.index("LEFT_SHOULDER")] = 0
    path = written(tmp_path / "a.pose", data, confidence, skeleton=skeleton)

    with pytest.raises(DataError, match="no frame shows both shoulders"):
        modality(99, reduce_holistic_poses=False).load(Signal(text=str(path)))


def test_poses_need_no_feature_extractor() -> None:
    with pytest.raises(ConfigError, match="feature_extractor_type"):
        PoseModality({}, model=ModelInput(feature_size=1, extracted=True))
