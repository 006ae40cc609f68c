"""Whether a run has come to its end, decided alike for a training and for its plan; no I/O."""

from collections.abc import Collection

from mmrun.errors import UsageError
from mmrun.tracking.attempts import PROCESSES

FINISHED = "finished"
"""How the record of an attempt says that it came to the end of the training."""

LENGTHS = frozenset({"training.max_steps", "training.num_train_epochs"})
"""What decides when a training is done; it may change without anything being lost."""
_OF_STOPPING = frozenset(
    {
        "training.early_stopping_patience",
        "training.eval_strategy",
        "training.greater_is_better",
        "training.metric_for_best_model",
    }
)


def stays_stopped(*, stopped_early: bool, changed: Collection[str]) -> bool:
    """Tell whether a training that early stopping has ended is to stay so.

    It goes on where something was changed that decides how long it is, or when it stops.
    """
    return stopped_early and not (LENGTHS | _OF_STOPPING).intersection(changed)


def is_done(
    *,
    ended: str | None,
    step: int,
    total: int | None,
    stopped_early: bool,
    changed: Collection[str],
) -> bool:
    """Tell whether nothing is left to be done.

    Args:
        ended: How the last attempt ended.
        step: Where it stands.
        total: The steps of the whole training; None where that is not known.
        stopped_early: Whether early stopping has ended it.
        changed: The settings that were changed since.
    """
    if ended != FINISHED:
        return False
    over = total is not None and step >= total
    return over or stays_stopped(stopped_early=stopped_early, changed=changed)


def refuse_without_effect(changed: Collection[str], *, step: int, run_id: str) -> None:
    """Refuse settings that were changed for a run that is done.

    The number of processes is the launcher's: a scheduler may start the same command with others.
    """
    unused = [key for key in changed if key not in LENGTHS | {PROCESSES}]
    if unused:
        raise UsageError(
            f"the run is done at step {step}, so these would have no effect: {', '.join(unused)}",
            hint="raise --max_steps (or --early_stopping_patience, where that ended it), or begin "
            f"a new run from an older step: --fork --output_dir NEW --resume_from_checkpoint "
            f"{run_id}@STEP",
        )
