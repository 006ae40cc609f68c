"""Which frames of a file a span means; no I/O."""

from math import ceil, floor, inf
from pathlib import Path

from mmrun.errors import DataError
from mmrun.modalities.base import Span, Unit

_SECOND_MS = 1000


def frames_of_span(
    span: Span,
    *,
    total: int,
    path: Path,
    unit: Unit = "frames",
    fps: float | None = None,
    stride: int = 1,
) -> range:
    """Return the numbers of the frames to load, of the ``total`` in ``path``.

    A span in milliseconds takes every frame that is on view during it, also in part, and needs
    ``fps``. Its end may lie up to one frame behind the last, as rounded times do; any other span
    that is not in the file is refused.
    """
    require_frames(total, path=path)
    if span.whole:
        return range(0, total, stride)
    if unit == "frames":
        end = total if span.end is None else span.end
        if not span.start < end <= total:
            raise outside(span, path=path, unit=unit, extent=f"{total} frames")
        return range(span.start, end, stride)
    if fps is None or not 0 < fps < inf:
        raise DataError(
            f"{path} does not say how many frames a second has, the span is in milliseconds",
            hint="give frame numbers, with signal_start_end_unit: frames in modality_kwargs",
        )
    # Divided last, it is rounded once, and whole where it should be.
    start = floor(span.start * fps / _SECOND_MS)
    end = total if span.end is None else ceil(span.end * fps / _SECOND_MS)
    if not start < min(end, total) or end > total + 1:
        lasts = f"{total / fps * _SECOND_MS:.0f} ms ({total} frames)"
        raise outside(span, path=path, unit=unit, extent=lasts)
    return range(start, min(end, total), stride)


def require_frames(total: int, *, path: Path) -> None:
    """Refuse a file without a frame."""
    if total <= 0:
        raise DataError(f"{path} has 0 frames", hint="make it again, or remove the row")


def outside(span: Span, *, path: Path, unit: Unit, extent: str) -> DataError:
    """Return the error for a span that the file, as long as ``extent`` says, does not have."""
    other = "milliseconds" if unit == "frames" else "frames"
    end = "the end" if span.end is None else span.end
    return DataError(
        f"{path} has {extent}, the span is {span.start} to {end} {unit}",
        hint=f"correct signal_start and signal_end (0 and 0 mean all), or, if they are {other}, "
        f"set processor.modality_kwargs.signal_start_end_unit: {other}",
    )
