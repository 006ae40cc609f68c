"""A stretch of a metric's history from a server that returns a sample where it is long; no I/O."""

from collections.abc import Callable

from mmrun.tracking.store import Point


def whole_stretch(
    sample: Callable[[int, int], list[Point]], first: int, last: int, *, limit: int
) -> list[Point] | None:
    """Return every point at the steps from ``first`` to ``last``.

    ``sample`` returns the points of such a stretch; of more than ``limit`` so many, or a few more.
    Fewer are all there are. So a stretch with too many is halved, until none has; None says that
    one step alone has.
    """
    points: list[Point] = []
    stretches = [(first, last)]
    while stretches:
        low, high = stretches.pop()
        found = sample(low, high) if low <= high else []
        if len(found) < limit:
            points += found
        elif low == high:
            return None
        else:
            middle = (low + high) // 2
            stretches += [(low, middle), (middle + 1, high)]
    return points
