"""Schedules that look back at a metric: what they remember, as distinct from their arguments; pure.

Both classes save arguments and memory as one, so that to load one whole would bring the arguments
of the attempt before back.
"""

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["formula", "reduce_lr_on_plateau", "greedy"]
State = Mapping[str, Any]
_AVERAGE = "_streaming_avg"
_REMEMBERED = (
    "best",
    "cooldown_counter",
    "last_epoch",
    "num_bad_epochs",
    "num_good_epochs",
    "warmup_counter",
)


def kind(state: State) -> Kind:
    """Tell which schedule a saved state is of."""
    if "num_bad_epochs" not in state:
        return "formula"
    return "greedy" if "num_good_epochs" in state else "reduce_lr_on_plateau"


def memory(saved: State, *, now: State) -> dict[str, Any]:
    """Return what a schedule with the state ``now`` is to remember of ``saved``."""
    kept = {name: saved[name] for name in _REMEMBERED if name in saved}
    if "reset_start" in saved:  # counts down from its argument
        waited = saved["reset_start_original"] - saved["reset_start"]
        kept["reset_start"] = now["reset_start_original"] - waited
    if _AVERAGE in saved and _AVERAGE in now:
        kept[_AVERAGE] = _windowed(saved[_AVERAGE], window=now["window_size"])
    return kept


def kept_rate(came_to: float, *, base: float | None, base_now: float) -> float:
    """Return the rate that was come to, in proportion to a changed ``learning_rate``."""
    return came_to if base is None or base == base_now else came_to / base * base_now


def _windowed(average: State, *, window: int) -> dict[str, Any]:
    values = average["values"][-window:]
    # As it was added up, to the last bit, where all values stay.
    total = average["sum"] if len(values) == len(average["values"]) else sum(values)
    return {"window_size": window, "values": values, "sum": total}
