"""Points for tests."""

from mmrun.tracking.store import Point


def point(value: float = 1.0, *, step: int = 1, at: int = 1000, key: str = "loss") -> Point:
    """Return a point; every part has a default."""
    return Point(key=key, step=step, timestamp_ms=at, value=value)
