"""Which checkpoints count, which is newest or best, which may go; no I/O."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mmrun.checkpoints.manifest import Manifest, Selection

Lineage = Sequence[tuple[int, int]]
"""The attempts of a run and the step that each of them started from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What is known of one checkpoint; in one run, step and attempt name it."""

    name: str
    step: int
    attempt: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    selection: Selection | None = None

    @classmethod
    def of(cls, manifest: Manifest, *, name: str) -> "Saved":
        """Take from a manifest what decisions need."""
        return cls(
            name=name,
            step=manifest.step,
            attempt=manifest.attempt,
            metrics=manifest.metrics,
            selection=manifest.selection,
        )

    @property
    def key(self) -> tuple[int, int]:
        """Step and attempt: the same here and in the store, whatever the folder is called."""
        return self.step, self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many checkpoints to keep; ``local`` None keeps all that are on disk."""

    local: int | None = None
    last: int = 2
    best: int = 1


def superseded(saved: Saved, lineage: Lineage) -> bool:
    """Say whether a later attempt started below this checkpoint, which then leads nowhere."""
    return any(attempt > saved.attempt and saved.step > start for attempt, start in lineage)


def live(saved: Iterable[Saved], lineage: Lineage) -> list[Saved]:
    """Return those that no later attempt has superseded."""
    return [one for one in saved if not superseded(one, lineage)]


def newest_first(saved: Iterable[Saved]) -> list[Saved]:
    """Order by step; of two of the same step the later attempt comes first."""
    return sorted(saved, key=lambda one: one.key, reverse=True)


def best_first(saved: Iterable[Saved]) -> list[Saved]:
    """Order by the metric of the newest selection; what has no such value is left out.

    Of two equal ones the older comes first, as in the Trainer's strict comparison.
    """
    known = newest_first(saved)
    selection = next((one.selection for one in known if one.selection is not None), None)
    if selection is None:
        return []
    metric, sign = selection.metric, -1 if selection.greater_is_better else 1
    ranked = [one for one in known if math.isfinite(one.metrics.get(metric, math.nan))]
    return sorted(ranked, key=lambda one: (sign * one.metrics[metric], one.step, -one.attempt))


def newest(saved: Iterable[Saved]) -> Saved | None:
    """Return the one to resume from, or None."""
    return next(iter(newest_first(saved)), None)


def best(saved: Iterable[Saved]) -> Saved | None:
    """Return the best by its own metric, or None where nothing was evaluated."""
    return next(iter(best_first(saved)), None)


def to_drop(
    saved: Iterable[Saved],
    *,
    keep_last: int,
    keep_best: int,
    keep: Collection[str] = (),
    lineage: Lineage = (),
) -> list[Saved]:
    """Return what may be deleted, in the order in which to do it: superseded first, then oldest.

    The newest one never is, whatever the numbers say. A superseded one is kept only where there
    are fewer live ones than ``keep_last``.
    """
    every = newest_first(saved)
    alive = live(every, lineage)
    dead = [one for one in every if superseded(one, lineage)]
    kept = {
        one.name for one in [*(alive + dead)[: max(keep_last, 1)], *best_first(alive)[:keep_best]]
    }
    kept |= set(keep)
    return [one for one in [*reversed(dead), *reversed(alive)] if one.name not in kept]
