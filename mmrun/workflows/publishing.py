"""How a run's checkpoints reach its store, for every command that sends some."""

import logging
from collections.abc import Sequence

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Lineage, Retention, Saved
from mmrun.checkpoints.publisher import Publisher
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.checkpoints.uploader import Listener, Uploader
from mmrun.config.schema import Experiment, TrainingSection
from mmrun.tracking.lease import Lease
from mmrun.tracking.store import RunStore
from mmrun.workflows.attempt import checkpoint_tags
from mmrun.workflows.place import Place

logger = logging.getLogger(__name__)


def _retention(experiment: Experiment) -> Retention:
    tracking = experiment.tracking
    return Retention(
        local=_local(experiment.training), last=tracking.keep_last, best=tracking.keep_best
    )


def _local(training: TrainingSection) -> int | None:
    """Return how many stay on disk: no fewer than are averaged at the end."""
    if training.save_total_limit is None or training.average_last is None:
        return training.save_total_limit
    return max(training.save_total_limit, training.average_last)


def publisher_of(
    place: Place,
    *,
    lineage: Lineage,
    lease: Lease,
    listener: Listener,
    resumed_from: Manifest | None = None,
) -> Publisher:
    """Return the publisher of the run that goes on at ``place``."""
    remote = RemoteCheckpoints(place.store.artifacts(place.run_id))
    return Publisher(
        LocalCheckpoints(place.output_dir / "train", run_id=place.run_id),
        remote if place.experiment.tracking.log_checkpoints else None,
        run_id=place.run_id,
        spool=place.output_dir / "spool",
        retention=_retention(place.experiment),
        lineage=lineage,
        resumed_from=resumed_from,
        listener=listener,
        may_write=lambda: not lease.lost.is_set(),
        sends=not place.offline,
    )


def send_queued(
    place: Place, *, lineage: Lineage, lease: Lease, listener: Listener, patience_s: float
) -> Sequence[str]:
    """Send what waits in the spool and nothing else; return what is left.

    For a run whose checkpoints stay on disk by now: these were queued when they were wanted.
    """
    spool = Spool(place.output_dir / "spool", run_id=place.run_id)
    if spool.waiting():
        uploader = Uploader(
            RemoteCheckpoints(place.store.artifacts(place.run_id)),
            spool,
            retention=_retention(place.experiment),
            lineage=lineage,
            listener=listener,
            may_write=lambda: not lease.lost.is_set(),
        )
        uploader.drain(patience_s, patient=lambda: True)
        uploader.stop()
    return [saved.name.rpartition("/")[2] for saved in spool.waiting()]


class Hints:
    """A listener that keeps the hints for people up to date, and counts what was sent."""

    def __init__(self, store: RunStore, run_id: str) -> None:
        self.count = 0
        self._store = store
        self._run_id = run_id

    def queued(self, step: int, *, queue_bytes: int) -> None:
        """Nothing is said of it."""

    def sending(self) -> None:
        """Nothing is said of it."""

    def sent(self, saved: Saved, *, seconds: float) -> None:
        """Say it, and count it."""
        self.count += 1
        logger.info("checkpoint of step %d: sent in %.1f s", saved.step, seconds)

    def settled(self, stored: Sequence[Saved] | None) -> None:
        """Say which checkpoints are latest and best."""
        if stored:
            self._store.set_tags(self._run_id, checkpoint_tags(stored))
