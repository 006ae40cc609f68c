"""The newest part of the journals: all that a resume needs of them, however long they are.

The file of an attempt is in the order of time. What the training logs comes in the order of steps;
threads beside it log ``mmrun/…``, also for steps that are over. A file of points that came with a
checkpoint is in no order, and has none beyond the step where its attempt began.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmrun.tracking.attempts import BESIDE, Start, in_time
from mmrun.tracking.journal import found_logs, log_path
from mmrun.tracking.lines import backwards, confirmed_in, decoded, forwards, points_in
from mmrun.tracking.replay import Divergence
from mmrun.tracking.store import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The points of some attempts from a step on."""

    points: Sequence[Point]
    newest_ms: int
    """Their latest time stamp, and that of the last line before them; 0 for none."""
    whole: bool
    """Whether nothing can be missing: each attempt has its file here, without a damaged line.

    And what they met again is here: a copy of a folder has all files, and not all that is theirs.
    """


def read_tail(
    folder: Path,
    *,
    lineage: Sequence[tuple[int, int]],
    from_step: int,
    starts: Sequence[Start] = (),
) -> Tail:
    """Return what the attempts of ``lineage`` journaled for ``from_step`` and later steps.

    ``lineage`` has their numbers, and the steps that they began at; ``starts`` when they did.
    """
    begun = dict(lineage)
    parts = [
        (attempt, (_read_whole if carried else _read_back)(path, from_step=from_step))
        for attempt, carried, path in found_logs(folder)
        if not carried or begun.get(attempt, from_step) >= from_step
    ]
    points = [
        point
        for attempt, part in parts
        for point in in_time(part.points, attempt=attempt, starts=starts)
    ]
    known = {(point.key, point.step, point.timestamp_ms) for point in points}
    here = {attempt for attempt, carried, _ in found_logs(folder) if not carried}
    whole = all(part.whole and part.met <= known for _, part in parts)
    return Tail(
        points=points,
        newest_ms=max((part.newest_ms for _, part in parts), default=0),
        whole=whole and begun.keys() <= here,
    )


def last_step(folder: Path) -> int:
    """Return the last step that any attempt journaled; 0 for none."""
    steps = [0]
    for _, carried, path in found_logs(folder):
        for content in () if carried else _contents(path):
            steps += (step for _, step in _places(content))
            if _of_training(content):
                break
    return max(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What an attempt wrote down since its record was saved for the last time."""

    until: int
    """The offset to which it was read."""
    last_step: int = 0
    confirmed: dict[str, list[list[int]]] = field(default_factory=dict)
    diverged: list[Divergence] = field(default_factory=list)


def read_left(folder: Path, *, attempt: int, after: int) -> Left:
    """Return what the file of ``attempt`` says beyond the offset ``after``."""
    path = log_path(folder, attempt)
    confirmed: dict[str, list[list[int]]] = {}
    diverged: list[Divergence] = []
    reached, until = 0, after
    for line, until in forwards(path, start=after):  # noqa: B007 (the last one counts)
        content = decoded(line, path=path)
        for key, one in confirmed_in(content):
            confirmed.setdefault(key, []).append(one)
        if isinstance(content, dict):
            for key, step, before, now, because in content.get("diverged", ()):
                diverged.append(Divergence(key, step, before, now, tuple(because)))
        reached = max([reached, *(step for _, step in _places(content))])
    return Left(until=until, last_step=reached, confirmed=confirmed, diverged=diverged)


class _Part(NamedTuple):
    """What one file has."""

    points: Sequence[Point]
    newest_ms: int
    whole: bool
    met: Set[tuple[str, int, int]] = frozenset()
    """Metric, step and time stamp of points that came out as they had been logged."""


def _read_whole(path: Path, *, from_step: int) -> _Part:
    contents = list(_contents(path))
    points = [point for content in contents for point in points_in(content)]
    return _Part(
        points=[point for point in points if point.step >= from_step],
        newest_ms=max((point.timestamp_ms for point in points), default=0),
        whole=None not in contents,
    )


def _read_back(path: Path, *, from_step: int) -> _Part:
    """Read from the last line to where the training had not come to ``from_step``."""
    points: list[Point] = []
    met: set[tuple[str, int, int]] = set()
    newest_ms = 0
    whole, over = True, False
    for content in _contents(path):
        read = points_in(content)
        points += (point for point in read if point.step >= from_step)
        met.update(
            (key, step, at)
            for key, (step, _, *known) in confirmed_in(content)
            for at in known
            if step >= from_step
        )
        newest_ms = newest_ms or (read[0].timestamp_ms if read else 0)
        whole = whole and content is not None
        over = over or (_of_training(content) and _places(content)[0][1] < from_step)
        if over and newest_ms:  # a line that only confirms has no time stamp
            break
    return _Part(points=points, newest_ms=newest_ms, whole=whole, met=met)


def _contents(path: Path) -> Iterator[Any]:
    return (decoded(line, path=path) for line in backwards(path))


def _places(content: Any) -> list[tuple[str, int]]:
    """Return metric and step of all that a line says."""
    if isinstance(content, list):
        return [(key, step) for key, step, _, _ in content]
    confirmed = content["confirmed"] if content is not None else ()
    return [(key, step) for key, step in confirmed]


def _of_training(content: Any) -> bool:
    """Whether the training thread wrote it, whose steps never go back."""
    if isinstance(content, dict) and content.get("later"):
        return False
    return any(not key.startswith(BESIDE) for key, _ in _places(content))
