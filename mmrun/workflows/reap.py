"""What ``mmrun reap`` does: say of runs whose process died that they are over, and only of those.

A run is judged by its lease, which is taken before anything is said: whoever begins to work on it
at the same moment has it, or is told to wait, but is never called KILLED.
"""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mmrun.errors import MmrunError, TrackingError
from mmrun.tracking import launcher
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.lease import BEAT_S, Holder, Lease, folder_lock, holder
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.signs_of_life import life_of, watch
from mmrun.tracking.store import Run, RunStore, UnreachableError
from mmrun.workflows.output_folder import in_words, unsent
from mmrun.workflows.over import is_open, say_over
from mmrun.workflows.records import last_record
from mmrun.workflows.which_experiment import find_shelf

logger = logging.getLogger(__name__)

_NOWHERE = Path("/nonexistent")
"""What stands for the output folder of a run that was trained on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Left:
    """A run that nobody works on any more though it counts as under way."""

    run: Run
    died: Holder | None
    """The process that had it; None where none had, or where it gave the run back."""


def reap_command(
    experiment: str | None = None,
    *,
    dry_run: bool = False,
    config_path: Path | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Mark the runs that died, remove what launchers left, and return what was done, by line.

    Args:
        experiment: Its name or id; by default the one that a training would be recorded in.
        dry_run: Whether to say only what would be done.
        config_path: The experiment file that says which experiment and where.
        tracking_uri: Where the runs are recorded, if not in the usual place.

    Raises:
        UsageError: there is no such experiment.
        TrackingError: the store does not answer.
    """
    shelf = find_shelf(experiment, config_path=config_path, uri=tracking_uri)
    if shelf.store is None or shelf.experiment is None:
        return f"nothing to do: {shelf.nothing}"
    store, where = shelf.store, shelf.experiment
    lines = [
        *reaped(store, where.experiment_id, dry_run=dry_run),
        *_swept(store, where.experiment_id, dry_run=dry_run),
    ]
    return "\n".join(lines or [f"nothing to do: no run of {where.name!r} is left over"])


def reaped(
    store: RunStore,
    experiment_id: str,
    *,
    dry_run: bool = False,
    beat_s: float = BEAT_S,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Say of every run of an experiment whose process died that it is over; yield what was said."""
    found = store.find(experiment_id=experiment_id, tags={})
    under_way = [run for run in found if launcher.is_own(run) and is_open(run)]
    lives = {run.run_id: life_of(run) for run in under_way}
    # Nobody may have a run yet that was opened this very moment, so that one is watched, too.
    silent = watch(
        store,
        [run for run in under_way if lives[run.run_id] in ("unknown", "free")],
        beat_s=beat_s,
        wait=wait,
    )
    for run in under_way:
        if lives[run.run_id] == "dead" or run.run_id in silent:
            yield _reap(store, _Left(run=run, died=holder(run)), dry_run=dry_run)
        else:
            held_by = holder(store.read(run.run_id))
            who = "somebody" if held_by is None else held_by.process
            yield f"{_name(run)}: left alone, {who} works on it"


def _reap(store: RunStore, left: _Left, *, dry_run: bool) -> str:
    name = _name(left.run)
    if dry_run:
        return f"{name}: would be closed; {_whose(left)}"
    folder = _folder_here(last_record(store, left.run.run_id))
    try:
        with ExitStack() as held:
            if folder is not None:  # whoever trains there offline holds nothing of the store
                held.enter_context(folder_lock(folder))
            held.enter_context(Lease(store, left.run.run_id, gone=left.died))
            now = store.read(left.run.run_id)
            if not is_open(now):
                return f"{name}: left alone, it has ended meanwhile"
            said = say_over(store, now, journal=(folder or _NOWHERE) / "journal")
            return f"{name}: {said}; {_whose(left)}{_waits(folder)}"
    except UnreachableError:
        raise
    except TrackingError as error:
        return f"{name}: left alone: {error}"


def _folder_here(last: AttemptRecord | None) -> Path | None:
    """Return the output folder of the run's last attempt, where that is on this machine."""
    if last is None or last.host != socket.gethostname():
        return None
    written = last.config.get("training", {}).get("output_dir")
    if not isinstance(written, str):
        return None
    try:
        run_file = read_run_file(Path(written))
    except MmrunError as error:
        logger.debug("%s is not looked at: %s", written, error)
        return None
    return Path(written) if run_file is not None and run_file.run_id == last.run_id else None


def _waits(folder: Path | None) -> str:
    """Return the advice for what the run's folder on this machine has not sent."""
    waiting = unsent(folder) if folder is not None else {}
    if not waiting:
        return ""
    sync = f"'mmrun sync {folder}' or the next training sends that"
    return f"; not sent from {folder}: {in_words(waiting)}; {sync}"


def _whose(left: _Left) -> str:
    return "nobody had it" if left.died is None else f"{left.died.process} is gone"


def _name(run: Run) -> str:
    return f"run {run.run_id} ({run.name})"


def _swept(store: RunStore, experiment_id: str, *, dry_run: bool) -> Iterator[str]:
    """Remove launchers' runs that are over; yield what was done with each."""
    for run in launcher.marked(store, experiment_id):
        over = launcher.is_over(run)
        what = f"{_name(run)}, which 'mlflow run' made"
        if over is None:
            yield f"{what}: left alone, its 'mlflow run' is on another machine or not known"
        elif not over:
            yield f"{what}: left alone, that still runs"
        elif not launcher.is_empty(store, run):
            yield f"{what}: left alone, something was recorded in it"
        elif dry_run:
            yield f"{what}: would be removed"
        else:
            store.delete(run.run_id)
            yield f"{what}: removed"
