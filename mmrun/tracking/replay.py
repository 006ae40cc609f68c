"""What comes out otherwise when steps are done again, and what explains it; no I/O.

Every crash tests for free whether a training is deterministic: its last steps are done twice. A
value that differs although nothing that could change it was changed is a fault worth knowing of.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmrun.tracking.store import Point

TAG = "mmrun.replay"
_DIVERGED, _OVERRIDDEN = "diverged", "overridden"
_INERT_SECTIONS = frozenset({"setup", "tracking"})
_INERT = frozenset(
    {
        "data.max_predict_samples",
        "data.test_metadata_file",
        "training.average_last",
        "training.disable_tqdm",
        "training.early_stopping_patience",
        "training.load_best_model_at_end",
        "training.project",
        "training.report_to",
        "training.run_name",
        "training.skip_memory_metrics",
    }
)
_INERT_PREFIXES = ("training.dataloader_", "training.hub_", "training.log_", "training.save_")
_BATCHES = "training.dataloader_drop_last"
_WHAT_IS_EVALUATED = frozenset(
    {
        "data.max_eval_samples",
        "data.validation_metadata_file",
        "training.include_for_metrics",
        "training.per_device_eval_batch_size",
        "training.predict_with_generate",
    }
)
_WHEN_AND_BY_WHAT = frozenset(
    {"training.greater_is_better", "training.metric_for_best_model", "training.metric_name"}
)


class Divergence(NamedTuple):
    """A point of the overlap that has another value than before."""

    key: str
    step: int
    before: float
    now: float
    because: tuple[str, ...] = ()
    """The changed settings that explain it."""


class Change(NamedTuple):
    """A setting that an attempt changed."""

    attempt: int
    old: str | None
    new: str | None


Changes = Mapping[str, Sequence[Change]]
"""By setting, its changes in the order of the attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Which settings were changed since a point was logged, and which of them matter for it."""

    started: Mapping[int, int] = field(default_factory=dict)
    """By attempt, the time stamp of its start."""
    changes: Changes = field(default_factory=dict)
    looks_back: bool = False
    """Whether the schedule follows an evaluated metric, so that evaluation moves the training."""

    def attempt_of(self, point: Point) -> int:
        """Return the attempt that logged ``point``; 0 for one of the run's source."""
        begun = (attempt for attempt, at in self.started.items() if at <= point.timestamp_ms)
        return max(begun, default=0)

    def of(self, point: Point) -> tuple[str, ...]:
        """Return the settings that can have changed the value that ``point`` had."""
        logged_in = self.attempt_of(point)
        return tuple(
            key
            for key, changes in self.changes.items()
            if _is_other(changes, since=logged_in)
            and can_change(key, point.key, looks_back=self.looks_back)
        )


def with_changes(
    earlier: Changes, changed: Mapping[str, tuple[Any, Any]], *, attempt: int
) -> dict[str, tuple[Change, ...]]:
    """Return the changes so far and those of ``attempt``, which are given as (old, new)."""
    now = {key: (Change(attempt, old, new),) for key, (old, new) in changed.items()}
    keys = sorted(earlier.keys() | now.keys())
    return {key: (*earlier.get(key, ()), *now.get(key, ())) for key in keys}


def _is_other(changes: Sequence[Change], *, since: int) -> bool:
    """Tell whether the setting has another value than in the attempt ``since``."""
    later = [change for change in changes if change.attempt > since]
    return bool(later) and later[0].old != later[-1].new


def can_change(setting: str, metric: str, *, looks_back: bool = False) -> bool:
    """Tell whether another value of ``setting`` can give ``metric`` another value at a step."""
    if _is_inert(setting):
        return False
    if setting in _WHAT_IS_EVALUATED or setting.startswith(("generation.", "training.generation_")):
        return looks_back or metric.startswith("eval_")
    if setting in _WHEN_AND_BY_WHAT or setting.startswith("training.eval_"):
        return looks_back  # evaluating leaves the training where it was
    if setting.startswith("training.logging_"):
        # The mean since the log line before; and the mean of all steps is made from those sums.
        return metric in {"loss", "train_loss"}
    return True


def _is_inert(setting: str) -> bool:
    if setting == _BATCHES:
        return False
    return (
        setting.partition(".")[0] in _INERT_SECTIONS
        or setting in _INERT
        or setting.startswith(_INERT_PREFIXES)
    )


def replay_tag(divergences: Iterable[Divergence], *, before: str | None = None) -> str | None:
    """Return what the run's tag is to say: the first step at which a value came out otherwise.

    ``before`` is what it says of earlier attempts. That something was overridden never hides that
    something diverged.
    """
    found = [(_OVERRIDDEN if one.because else _DIVERGED, one.step) for one in divergences]
    if before is not None:
        word, _, step = before.partition("@")
        found.append((word, int(step)))
    if not found:
        return None
    worst, first = min(found)  # "diverged" comes before "overridden"
    return f"{worst}@{first}"


def in_words(found: Divergence, *, circumstances: Sequence[str] = ()) -> str:
    """Say what came out otherwise, and what may have been the reason."""
    text = (
        f"step {found.step}: {found.key} is {found.now!r} now, and was {found.before!r} before "
        "the interruption"
    )
    if found.because:
        return f"{text}; changed since: {', '.join(found.because)}"
    text = f"{text}, and no setting was changed that explains it"
    return f"{text}; changed since: {', '.join(circumstances)}" if circumstances else text
