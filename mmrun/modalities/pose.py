"""Poses: one `.pose` file a sample, the points of a person in every frame."""

import logging
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pose_format import Pose, PoseHeader
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_body import EmptyPoseBody, PoseBody
from pose_format.utils.generic import pose_hide_legs, pose_normalization_info, reduce_holistic
from pose_format.utils.reader import BufferReader
from pydantic import Field, NonNegativeFloat, PositiveInt

from mmrun.errors import ConfigError, DataError
from mmrun.modalities.augmentation import frame_dropping, in_turn, noise
from mmrun.modalities.base import (
    Array,
    Augmentation,
    ModelInput,
    Settings,
    Signal,
    Unit,
    read_settings,
)
from mmrun.modalities.spans import frames_of_span

logger = logging.getLogger(__name__)

_UNREADABLE = (OSError, EOFError, struct.error, TypeError, ValueError, NotImplementedError)
"""What pose-format raises on files that are cut off, or of another kind or version."""
_UNKNOWN = (ValueError, LookupError, NotImplementedError)
"""What pose-format raises where a skeleton does not have the points it looks for."""


class PoseSettings(Settings):
    """What ``processor.modality_kwargs`` may say about poses."""

    reduce_holistic_poses: bool = True
    """Keep of MediaPipe Holistic what sign language needs: contours of the face, arms, hands."""
    hide_legs: bool = True
    """Set the points of hips, legs and feet to zero."""
    normalize: bool = True
    """Put the middle of the shoulders at zero, and their distance at one."""
    skip_frames_stride: PositiveInt | None = None
    """Keep every n-th frame."""
    signal_start_end_unit: Unit = "milliseconds"
    frame_dropping: float = Field(default=0.0, ge=0, lt=1)
    """In training: the share of the frames that are left out at random."""
    noise: NonNegativeFloat = 0.0
    """In training: the standard deviation of the noise that is added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Which points of a file are taken, and what is known of them."""

    points: NDArray[np.intp]
    hidden: NDArray[np.intp]
    """Of the points taken, by their place among them."""
    shoulders: tuple[int, int] | None
    """Likewise; None for a skeleton in which pose-format knows none."""


class _Numbers(PoseBody):  # type: ignore[misc]
    """A body as plain arrays: the masked ones of pose-format cost more than all else here."""

    tensor_reader = "unpack_numpy"


@dataclass(frozen=True, slots=True, kw_only=True)
class _PoseFile:
    """A file whose head was read."""

    path: Path
    header: PoseHeader
    shape: tuple[int, int, int, int]
    """Frames, people, points, dimensions."""
    fps: float
    reader: BufferReader
    """Stands where the body begins."""

    def body(self, frames: range) -> PoseBody:
        """Read the frames from the first of ``frames`` to the last, and nothing else."""
        with _named(self.path):
            return _Numbers.read(
                self.header, self.reader, start_frame=frames.start, end_frame=frames.stop
            )


class PoseModality:
    """Loads ``[T, points * dimensions]``, a point that was not seen as zeros."""

    gives: ClassVar[Literal["frames", "tokens"]] = "frames"

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        if model.extracted:
            raise ConfigError(
                "model.feature_extractor_type: poses are numbers already, not pixels or waves",
                hint="remove the feature extractor from the model section",
            )
        self._settings = read_settings(PoseSettings, settings)
        self._feature_size = model.feature_size
        self._layouts: dict[tuple[tuple[str, ...], ...], _Layout] = {}
        self._told = False

    def length(self, signal: Signal) -> int:
        """Return the number of frames, from the head of the file."""
        file = _opened(signal.path)
        people = file.shape[1]
        # Not in load: every worker of every epoch would say it again.
        if people > 1 and not self._told:
            self._told = True
            logger.warning("%s has %d people: of each file, the first is taken", file.path, people)
        return len(self._frames(file, signal))

    def load(self, signal: Signal) -> Array:
        """Return the points of the first person in the frames of the span."""
        path, file = signal.path, _opened(signal.path)
        frames = self._frames(file, signal)
        body = file.body(frames)
        layout = self._layout(file.header)
        points: NDArray[np.float32] = body.data[:, 0, layout.points]
        confidence = body.confidence[:, 0, layout.points]
        seen = confidence > 0
        if not (np.isfinite(points).all() or np.isfinite(points[seen]).all()):
            raise DataError(f"{path} holds NaN or infinite values", hint="estimate it again")
        if self._settings.normalize:
            points = _normalized(points, seen=confidence != 0, layout=layout, path=path)
        seen[:, layout.hidden] = False
        values = np.where(seen[:, :, None], points, np.float32(0)).reshape(len(points), -1)
        return np.ascontiguousarray(values[:: frames.step], dtype=np.float32)

    def augmentation(self) -> Augmentation | None:
        """Return what the settings ask for."""
        wanted = self._settings
        return in_turn(frame_dropping(wanted.frame_dropping), noise(wanted.noise))

    def _frames(self, file: "_PoseFile", signal: Signal) -> range:
        """Return which frames to take; refuse a file that does not fit."""
        frames, people, _, dimensions = file.shape
        if people == 0:
            raise DataError(
                f"{file.path} has no person in it", hint="estimate it again, or remove the row"
            )
        values = len(self._layout(file.header).points) * dimensions
        if values != self._feature_size:
            raise DataError(
                f"{file.path} has {values} values a frame, model.feat_dim is {self._feature_size}",
                hint=f"set model.feat_dim to {values}, or correct the row",
            )
        return frames_of_span(
            signal.span,
            total=frames,
            path=file.path,
            unit=self._settings.signal_start_end_unit,
            fps=file.fps,
            stride=self._settings.skip_frames_stride or 1,
        )

    def _layout(self, header: PoseHeader) -> _Layout:
        skeleton = tuple((part.name, *part.points) for part in header.components)
        if skeleton not in self._layouts:
            self._layouts[skeleton] = _layout_of(header, wanted=self._settings)
        return self._layouts[skeleton]


def _opened(path: Path) -> _PoseFile:
    """Read the head; the rest is mapped, and read where it is wanted.

    The file reader of pose-format is not used: it takes wrong bytes for a span that begins in
    what it has read already, as it does in a short file.
    """
    with _named(path), path.open("rb") as file:
        reader = BufferReader(mmap(file.fileno(), 0, access=ACCESS_READ))
        header = PoseHeader.read(reader)
        start = reader.read_offset
        body = EmptyPoseBody.read(header, reader)
        if reader.bytes_left() < 0:
            raise EOFError
        reader.read_offset = start
        return _PoseFile(
            path=path, header=header, shape=body.data.shape, fps=float(body.fps), reader=reader
        )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", hint="correct the column signal") from error
    except _UNREADABLE as error:
        raise DataError(
            f"{path} cannot be read: it is not a whole .pose file of version 0.1 or 0.2",
            hint="write it again with pose-format, or remove the row",
        ) from error


def _layout_of(header: PoseHeader, *, wanted: PoseSettings) -> _Layout:
    """Ask pose-format, with one frame whose points are their own numbers and all in view."""
    count = header.total_points()
    numbers = np.repeat(np.arange(count, dtype=np.float64), header.num_dims())
    body = NumPyPoseBody(1.0, numbers.reshape(1, 1, count, -1), np.ones((1, 1, count)))
    pose = Pose(header, body)
    if wanted.reduce_holistic_poses:
        try:
            pose = reduce_holistic(pose)
        except _UNKNOWN:
            logger.debug("no points of MediaPipe Holistic to leave out")
    points = pose.body.data.data[0, 0, :, 0].astype(np.intp)
    if wanted.hide_legs:
        try:
            pose_hide_legs(pose)
        except _UNKNOWN:
            logger.debug("no legs to hide")
    try:
        info = pose_normalization_info(pose.header)
        shoulders = (info.p1, info.p2)
    except _UNKNOWN:
        shoulders = None
    hidden = np.flatnonzero(pose.body.confidence[0, 0] == 0)
    return _Layout(points=points, hidden=hidden, shoulders=shoulders)


def _normalized(
    points: NDArray[np.float32], *, seen: NDArray[np.bool_], layout: _Layout, path: Path
) -> NDArray[np.float32]:
    """Move and scale the whole span as one, so that movement stays.

    Without shoulders the middle and the standard deviation of all that is seen are taken.
    """
    if layout.shoulders is not None:
        left, right = layout.shoulders
        both = seen[:, left] & seen[:, right]
        ends = points[both][:, [left, right]].astype(np.float64)
        middle, spread = ends.mean(axis=1), np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        what = "no frame shows both shoulders"
    else:
        middle = points[seen].astype(np.float64)
        spread = np.linalg.norm(middle - middle.mean(axis=0), axis=1) if len(middle) else middle
        what = "no frame shows a point"
    size = spread.mean() if len(spread) else 0.0
    if not size > 0:
        raise DataError(
            f"{path} cannot be normalized: {what}, or they lie at one place",
            hint="remove the row, or set normalize: false in processor.modality_kwargs",
        )
    placed: NDArray[np.float32] = ((points - middle.mean(axis=0)) / size).astype(np.float32)
    return placed
