"""Video files: which frames they have, and the pictures of some of them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mmrun.errors import DataError
from mmrun.modalities.base import Span, Unit
from mmrun.modalities.spans import frames_of_span, outside, require_frames

logger = logging.getLogger(__name__)

_SECOND_MS = 1000
_INDEXED = "mov"
"""The format (also called mp4) that lists all its frames in one place."""
_SOUGHT = frozenset({"mov", "matroska", "avi"})
"""The formats in which a key frame is found by its time; others are decoded from the start."""
_THREADS = 2
"""For one file; several files are decoded at a time in workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What the head of a video file says, and the times of its frames."""

    path: Path
    width: int
    height: int
    total: int
    times: NDArray[np.int64] | None
    """When each frame is shown, in ``time_base`` seconds; None where the file does not say."""
    time_base: Fraction
    fps: float

    def frames(self, span: Span, *, unit: Unit, stride: int) -> range:
        """Return the numbers of the frames that ``span`` means.

        In milliseconds, the first is the one that begins nearest to the start, and the last the one
        that begins at the end or before it.
        """
        require_frames(self.total, path=self.path)
        if unit == "frames" or span.whole:
            return frames_of_span(span, total=self.total, path=self.path, stride=stride)
        begins, period = self._begins_ms(), _SECOND_MS / self.fps
        lasts = begins[-1] + period
        end = lasts if span.end is None else span.end
        if not span.start < min(end, lasts) or end > lasts + period:
            extent = f"{lasts:.0f} ms ({self.total} frames)"
            raise outside(span, path=self.path, unit=unit, extent=extent)
        between = (begins[1:] + begins[:-1]) / 2
        first = int(np.searchsorted(between, span.start, side="right"))
        stop = int(np.searchsorted(begins, end, side="right"))
        return range(first, max(stop, first + 1), stride)

    def pictures(self, wanted: range) -> Iterator[av.VideoFrame]:
        """Decode from the key frame before the first of ``wanted`` on, and yield those.

        What the file does not have of them, or what cannot be decoded, is an error.
        """
        decoded = given = 0
        spoilt = False
        for place, frame in self._decoded(wanted.start):
            decoded += 1
            # The frames after it are made from it, up to one that can stand alone.
            spoilt = frame.is_corrupt or (spoilt and not frame.key_frame)
            if place in wanted:
                if spoilt:
                    raise self._damaged(f"the decoder made up a part of frame {place}")
                given += 1
                yield frame
            if place >= wanted[-1]:
                break
        logger.debug("%s: decoded %d frames for %d", self.path, decoded, len(wanted))
        if given < len(wanted):
            raise self._damaged(f"of {len(wanted)} frames, {given} can be decoded")

    def _damaged(self, what: str) -> DataError:
        hint = "make it again from its source, or remove the row"
        return DataError(f"{self.path} is damaged: {what}", hint=hint)

    def _begins_ms(self) -> NDArray[np.floating[Any]]:
        if self.times is None:
            return np.arange(self.total) * (_SECOND_MS / self.fps)
        since = (self.times - self.times[0]) * (_SECOND_MS * self.time_base.numerator)
        begins: NDArray[np.floating[Any]] = since / self.time_base.denominator
        return begins

    def _decoded(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield frames with their numbers, beginning with the number ``first`` or before it."""
        if first and self.times is not None:
            with _opened(self.path) as (container, stream):
                if _SOUGHT & set(container.format.name.split(",")):
                    container.seek(int(self.times[first]), stream=stream)
                    frames = _frames(container, stream)
                    key = next(frames, None)
                    place = self._place(key)
                    # Some files are sought by the time of decoding: then the key frame is too late.
                    if key is not None and place is not None and place <= first:
                        yield place, key
                        yield from enumerate(frames, start=place + 1)
                        return
        with _opened(self.path) as (container, stream):
            yield from enumerate(_frames(container, stream))

    def _place(self, frame: av.VideoFrame | None) -> int | None:
        """Return the number of a frame that can stand alone, by the time it says."""
        if frame is None or frame.pts is None or not frame.key_frame or self.times is None:
            return None
        place = int(np.searchsorted(self.times, frame.pts))
        return place if place < self.total and self.times[place] == frame.pts else None


def read_clip(path: Path, *, timed: bool) -> Clip:
    """Return what is known of the file without decoding it; ``times`` only if ``timed``."""
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"there is no file {path}", hint="correct the column signal") from error
    return _read_clip(path, timed, (state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=64)
def _read_clip(path: Path, timed: bool, state: tuple[int, int]) -> Clip:  # noqa: ARG001 (a key)
    with _opened(path) as (container, stream):
        total, times = _from_index(container, stream)
        if total is None or (timed and times is None):
            total, times = _from_packets(container, stream)
        fps = stream.average_rate or stream.guessed_rate or 25
        return Clip(
            path=path,
            width=stream.width,
            height=stream.height,
            total=total,
            times=times,
            time_base=stream.time_base or Fraction(1, 1000),
            fps=float(fps),
        )


def _from_index(container: Any, stream: Any) -> tuple[int | None, NDArray[np.int64] | None]:
    """Take the number of frames from an index; and their times, if they are evenly apart.

    The index has times of decoding. Where they are even, so are those of showing.
    """
    entries = stream.index_entries
    if _INDEXED not in container.format.name or len(entries) != stream.frames:
        return None, None
    shown = [entry for entry in entries if not entry.is_discard]
    if len(shown) < len(entries) or stream.start_time is None:
        return None, None
    steps = np.diff([entry.timestamp for entry in shown])
    if len(steps) and (steps != steps[0]).any():
        return len(shown), None
    step = int(steps[0]) if len(steps) else 1
    return len(shown), stream.start_time + step * np.arange(len(shown), dtype=np.int64)


def _from_packets(container: Any, stream: Any) -> tuple[int, NDArray[np.int64] | None]:
    """Go through the file, without decoding it."""
    found = [
        packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard
    ]
    if any(pts is None for pts in found):
        return len(found), None
    return len(found), np.sort(np.array(found, dtype=np.int64))


def _frames(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    stream.thread_type, stream.thread_count = "AUTO", _THREADS
    yield from container.decode(stream)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise _without_picture(path, sound=bool(container.streams.audio))
            if container.streams.video[0].codec_context is None:
                raise DataError(
                    f"{path} cannot be read: FFmpeg has no decoder for it",
                    hint="convert it, to H.264 for instance",
                )
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _unreadable(path) from error


def _without_picture(path: Path, *, sound: bool) -> DataError:
    """Return the error for a file of sounds, or one that ends before it says what is in it."""
    if not sound:
        return _unreadable(path)
    return DataError(f"{path} has no video stream", hint="correct the column signal")


def _unreadable(path: Path) -> DataError:
    return DataError(
        f"{path} cannot be read: it is not a whole video file",
        hint="make it again from its source, or remove the row",
    )
