"""The best evaluation so far by a metric that it was not chosen by at the time; pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Best(NamedTuple):
    """What the Trainer and early stopping would know, had they followed this metric."""

    value: float
    step: int
    waited: int
    """Evaluations since then that were not better."""


def best_so_far(
    history: Iterable[Mapping[str, Any]], *, metric: str, greater_is_better: bool
) -> Best | None:
    """Go through the Trainer's log lines; None where the metric was never evaluated."""
    best = None
    for line in history:
        value = line.get(metric)
        if value is None:
            continue
        if best is None or (value > best.value if greater_is_better else value < best.value):
            best = Best(value=value, step=line["step"], waited=0)
        else:
            best = best._replace(waited=best.waited + 1)
    return best
