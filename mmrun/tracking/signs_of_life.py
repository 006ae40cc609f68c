"""Whether somebody still works on a run: told at once on this machine, by watching elsewhere."""

import time
from collections.abc import Callable, Sequence
from typing import Literal

from mmrun.progress import progress
from mmrun.tracking.lease import BEAT_S, BEATS_OF_SILENCE, holder, pulse
from mmrun.tracking.process import is_alive
from mmrun.tracking.store import Run, RunStore

Life = Literal["alive", "dead", "unknown", "free"]
"""Of the process that holds a run; unknown on another machine, free where nobody holds it."""
_TICKS_OF_A_BEAT = 10


def life_of(run: Run) -> Life:
    """Return what can be told of a run's holder without waiting."""
    held_by = holder(run)
    if held_by is None:
        return "free"
    alive = is_alive(held_by.process)
    if alive is None:
        return "unknown"
    return "alive" if alive else "dead"


def watch(
    store: RunStore,
    runs: Sequence[Run],
    *,
    beat_s: float = BEAT_S,
    wait: Callable[[float], None] = time.sleep,
) -> frozenset[str]:
    """Watch ``runs`` for three heartbeats, all at once; return the ids of those that stood still.

    Only their counters are compared, no clocks of two machines.
    """
    pulses = {run.run_id: pulse(run) for run in runs}
    ticks = BEATS_OF_SILENCE * _TICKS_OF_A_BEAT if runs else 0
    what = "a run" if len(runs) == 1 else f"{len(runs)} runs"
    label = f"waiting for a sign of life of {what}"
    for tick in progress(range(1, ticks + 1), total=ticks, label=label, unit="s"):
        wait(beat_s / _TICKS_OF_A_BEAT)
        if tick % _TICKS_OF_A_BEAT == 0:
            pulses = {
                run_id: before
                for run_id, before in pulses.items()
                if pulse(store.read(run_id)) == before
            }
        if not pulses:
            break
    return frozenset(pulses)
