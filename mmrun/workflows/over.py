"""Whether a run counts as under way, and saying that it is over where its process could not."""

from pathlib import Path

from mmrun.checkpoints.policy import Saved, newest
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.store import Run, RunStatus, RunStore
from mmrun.workflows.ending import Ending, deliver_ending, read_ending, tell
from mmrun.workflows.killed import KILLED, as_killed
from mmrun.workflows.records import last_record

STATUS_TAG = "mmrun.status"
RUNNING = "running"


def is_open(run: Run) -> bool:
    """Whether a run counts as under way, by MLflow or by its tag."""
    return run.status in {"RUNNING", "SCHEDULED"} or run.tags.get(STATUS_TAG) == RUNNING


def status_of(ended: str) -> RunStatus:
    """Return MLflow's word for how an attempt ended."""
    ends: dict[str, RunStatus] = {"finished": "FINISHED", "failed": "FAILED"}
    return ends.get(ended, "KILLED")


def say_over(store: RunStore, run: Run, *, journal: Path) -> str:
    """Say how a run ended, as the next training would; return it in words.

    To be called by who holds the run's lease. ``journal`` need not be there.
    """
    last = last_record(store, run.run_id)
    ending = read_ending(journal)
    if ending is not None and last is not None and ending.record.attempt == last.attempt:
        deliver_ending(store, journal)
        return f"{ending.record.ended}, which could not be told when it ended"
    if last is None:
        store.set_tags(run.run_id, {STATUS_TAG: KILLED})
        store.set_status(run.run_id, "KILLED")
        return f"{KILLED} before its first attempt began"
    if last.ended is None:
        last = as_killed(last, journal=journal, saved=_newest_saved(store, last))
    ended = last.ended or KILLED
    tell(store, Ending(record=last, status=status_of(ended)))
    at = "" if last.to_step is None else f" at step {last.to_step}"
    return f"{ended}{at}"


def _newest_saved(store: RunStore, last: AttemptRecord) -> Saved | None:
    stored, _ = RemoteCheckpoints(store.artifacts(last.run_id)).look()
    return newest(saved for saved in stored if saved.attempt == last.attempt)
