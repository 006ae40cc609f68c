"""A stretch is whole although the server returns samples."""

from mmrun.tracking.store import Point
from mmrun.tracking.stretch import whole_stretch
from tests.unit.tracking.points import point


class Server:
    """Has some points, and returns at most so many of a stretch."""

    def __init__(self, points: list[Point], *, limit: int) -> None:
        self.points = points
        self.limit = limit
        self.asked: list[tuple[int, int]] = []

    def sample(self, first: int, last: int) -> list[Point]:
        self.asked.append((first, last))
        return [point for point in self.points if first <= point.step <= last][: self.limit]


def test_a_short_stretch_is_asked_for_once() -> None:
    server = Server([point(step=step) for step in range(99)], limit=100)

    assert whole_stretch(server.sample, 0, 10_000, limit=100) == server.points
    assert server.asked == [(0, 10_000)]


def test_a_long_stretch_is_put_together() -> None:
    server = Server([point(step=step) for step in range(0, 5000, 7)], limit=100)

    found = whole_stretch(server.sample, 0, 4999, limit=100)

    assert found is not None
    assert sorted(found) == server.points


def test_one_step_with_too_many_points_cannot_be_read_so() -> None:
    server = Server([point(step=5, at=at) for at in range(100)], limit=100)

    assert whole_stretch(server.sample, 0, 10, limit=100) is None


def test_nothing_is_asked_for_no_steps() -> None:
    server = Server([point(step=5)], limit=100)

    assert whole_stretch(server.sample, 6, 5, limit=100) == []
    assert server.asked == []
