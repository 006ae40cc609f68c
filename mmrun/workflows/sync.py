"""What ``mmrun sync`` does: send what a training left, and say how it ended."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrun.checkpoints.spool import Spool
from mmrun.config.schema import Experiment
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.lease import Lease, folder_lock
from mmrun.tracking.run_file import RunFile, read_run_file
from mmrun.tracking.store import RunStore
from mmrun.workflows.ending import deliver_ending
from mmrun.workflows.offline import PATIENCE_S, conclude, forget_unbegun, sender_of, tell
from mmrun.workflows.offline_name import part_ways, settle
from mmrun.workflows.output_folder import in_words, unsent
from mmrun.workflows.over import is_open, say_over
from mmrun.workflows.past import read_past
from mmrun.workflows.place import Place, open_store
from mmrun.workflows.publishing import Hints, publisher_of, send_queued

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Delivery:
    """What came of what had waited."""

    checkpoints: int
    """How many were sent."""
    missed: Sequence[str]
    """Those that were not."""
    doubles: int
    """Metric points that another folder had sent already."""


def sync_command(
    output_dir: Path, *, as_new_run: bool = False, tracking_uri: str | None = None
) -> str:
    """Send what waits in ``output_dir``: metric points, checkpoints, and what was done offline.

    Args:
        output_dir: What a training wrote to.
        as_new_run: Whether what was done offline is to be a run of its own, since another machine
            went on with the one that it was.
        tracking_uri: Where the run is recorded, if it moved, or is to be.

    Raises:
        UsageError: no training wrote there.
        TrackingError: the store does not answer or refuses, or a process works on the run.
    """
    store = open_store(None, _run_file(output_dir), uri=tracking_uri)
    only = "wait until it has ended: a training sends what waits itself"
    with folder_lock(output_dir, hint=only):
        if forget_unbegun(output_dir):
            return f"{output_dir}: nothing was trained, so there is nothing to send"
        if as_new_run:
            part_ways(output_dir)
        waiting = unsent(output_dir)
        run = store.read(settle(output_dir, store))
        with Lease(store, run.run_id) as lease:
            tell(output_dir, store)
            delivery = _send(output_dir, store, _run_file(output_dir), lease=lease)
            conclude(output_dir, store)
            ended = _say_ended(store, run.run_id, journal=output_dir / "journal")
    left = {**unsent(output_dir), "checkpoints": len(delivery.missed)}
    points = waiting.get("metric points", 0) - left.get("metric points", 0)
    attempts = waiting.get("attempts", 0)
    if any(left.values()):
        raise TrackingError(
            f"{in_words(left)} of run {run.run_id} could not be sent: {_reasons(output_dir)}",
            hint="see that the tracking server and its artifact store work, then try again",
        )
    said = f"run {run.run_id}: {_outcome(delivery, points=points, attempts=attempts)}"
    return said if ended is None else f"{said}; its last attempt: {ended}"


def _say_ended(store: RunStore, run_id: str, *, journal: Path) -> str | None:
    """Say how the last attempt ended, if that was not told; who has the folder knows it is over."""
    ending = deliver_ending(store, journal)
    if ending is not None:
        return ending.record.ended
    run = store.read(run_id)
    return say_over(store, run, journal=journal) if is_open(run) else None


def _run_file(output_dir: Path) -> RunFile:
    run_file = read_run_file(output_dir)
    if run_file is None:
        raise UsageError(
            f"{output_dir} has no run.json: no training wrote to it",
            hint="give the folder that 'mmrun train' wrote to",
        )
    return run_file


def _send(output_dir: Path, store: RunStore, run_file: RunFile, *, lease: Lease) -> _Delivery:
    """Send everything that the store takes."""
    run = store.read(run_file.run_id)
    past = read_past(store, run, run_file)
    place = Place(
        experiment=past.experiment(()) if past.last is not None else Experiment(),
        output_dir=output_dir,
        store=store,
        run=run,
        run_file=run_file,
        launched=None,
        reference=None,
        fresh=False,
    )
    hints = Hints(store, run.run_id)
    publisher = publisher_of(place, lineage=past.lineage, lease=lease, listener=hints)
    with sender_of(output_dir, store, run.run_id, past=past) as sender:
        publisher.recover()
        sender.drain(PATIENCE_S)
        missed = publisher.drain(PATIENCE_S, patient=lambda: True)
        publisher.stop()
        if not place.experiment.tracking.log_checkpoints:
            missed = send_queued(
                place, lineage=past.lineage, lease=lease, listener=hints, patience_s=PATIENCE_S
            )
    return _Delivery(checkpoints=hints.count, missed=missed, doubles=sender.doubles)


def _outcome(delivery: _Delivery, *, points: int, attempts: int) -> str:
    """Say what became of the attempts, points and checkpoints that waited."""
    there = delivery.doubles
    sent = in_words(
        {
            "offline attempts": attempts,
            "metric points": points - there,
            "checkpoints": delivery.checkpoints,
        }
    )
    if not there:
        return f"sent {sent}" if sent else "nothing was waiting"
    return f"sent {sent or 'nothing'}; another folder had sent {there} metric points already"


def _reasons(output_dir: Path) -> str:
    spool = Spool(output_dir / "spool")
    states = [str(spool.state(saved.name)) for saved in spool.waiting()]
    return states[0] if states else "the server did not take them in time"
