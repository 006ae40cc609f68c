"""From a written partial folder to a checkpoint on disk and in the store."""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_before_delay, wait_exponential

from mmrun.checkpoints.entry import folder_name
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Description, Manifest
from mmrun.checkpoints.policy import Lineage, Retention, Saved, live, to_drop
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import CheckpointError, TrackingError

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 10.0


class Publisher:
    """Does everything that follows once the Trainer has written its files.

    ``publish`` and ``drain`` are all that the training calls, so the work may move to a thread.
    A store that is out of reach costs no checkpoint: what could not be sent waits in the spool,
    for the next ``publish``, for ``drain``, or for another process.

    Args:
        resumed_from: the checkpoint this attempt started from; it is never removed.
        pinned: names in the store that the user wants to keep.
        on_stored: called with the checkpoints that exist in the store after each change.
    """

    def __init__(
        self,
        local: LocalCheckpoints,
        remote: RemoteCheckpoints | None,
        *,
        run_id: str,
        spool: Path,
        retention: Retention,
        lineage: Lineage = (),
        resumed_from: Manifest | None = None,
        pinned: Collection[str] = (),
        on_stored: Callable[[Sequence[Saved]], None] | None = None,
    ) -> None:
        self._local = local
        self._remote = remote
        self._run_id = run_id
        self._spool = Spool(spool, run_id=run_id)
        self._retention = retention
        self._lineage = lineage
        self._resumed_from = resumed_from
        self._pinned = frozenset(pinned)
        self._on_stored = on_stored
        self._stored: Sequence[Saved] = ()
        self._away = False

    def recover(self) -> None:
        """Remove scratch folders of a dead process and queue what it had not yet sent.

        To be called once, by the process that holds the run, before training starts.
        """
        self._local.tidy()
        self._spool.tidy()
        self._local.supersede(self._lineage)
        if self._remote is not None:
            self._queue_missing(self._remote)
        self._local.link(self._lineage, elsewhere=self._stored)

    def publish(self, partial: Path, description: Description) -> None:
        """Make ``partial`` a checkpoint, here and in the store."""
        manifest = self._local.finish(partial, description, lineage=self._lineage)
        if self._remote is not None:
            self._queue(folder_name(manifest.step), manifest)
        self._local.link(self._lineage, elsewhere=self._stored)
        self._rotate()
        self._send()

    def drain(self, timeout_s: float) -> Sequence[str]:
        """Send what waits, trying again for ``timeout_s``; return what is still unsent."""
        retrying = Retrying(
            stop=stop_before_delay(timeout_s),
            wait=wait_exponential(multiplier=0.5, max=_LONGEST_WAIT_S),
            retry=retry_if_result(bool),
        )
        try:
            retrying(self._send)
        except RetryError:
            logger.debug("gave up on the store after %.0f s", timeout_s)
        return [saved.name.rpartition("/")[2] for saved in self._spool.waiting()]

    def _queue_missing(self, remote: RemoteCheckpoints) -> None:
        """Queue checkpoints that a killed process had renamed but not yet spooled."""
        try:
            self._stored = [saved for saved, _ in remote.list()]
        except TrackingError as error:
            self._say_away(error)
            return
        here = {saved.key: (saved, manifest) for saved, manifest in self._local.list()}
        there = {saved.key for saved in self._stored}
        every = [saved for saved, _ in here.values()]
        every += [saved for saved in self._stored if saved.key not in here]
        unwanted = {saved.key for saved in self._surplus(every)}
        for key, (saved, manifest) in here.items():
            if key not in there and key not in unwanted and manifest.run_id == self._run_id:
                self._queue(saved.name, manifest)

    def _queue(self, name: str, manifest: Manifest) -> None:
        try:
            self._spool.add(self._local.path(name), manifest)
        except OSError as error:  # it is safe where it lies; recover() finds it again
            logger.warning("%s is saved, but could not be queued for the store: %s", name, error)

    def _rotate(self) -> None:
        kept = {saved.key for saved in self._spool.waiting()} | self._resumed_key
        keep = {saved.name for saved in self._local.every() if saved.key in kept}
        self._local.rotate(self._retention.local, keep=keep, lineage=self._lineage)

    @property
    def _resumed_key(self) -> set[tuple[int, int]]:
        start = self._resumed_from
        return set() if start is None else {(start.step, start.attempt)}

    def _send(self) -> bool:
        """Upload what waits, oldest first; True if something is left because of the store."""
        if self._remote is None:
            return False
        try:
            for saved in self._spool.waiting():
                self._upload(self._remote, saved)
            self._retain(self._remote)
        except TrackingError as error:
            self._say_away(error)
            self._shorten_queue()
            return bool(self._spool.waiting())
        if self._away:
            logger.info("the store takes checkpoints again, all have been sent")
        self._away = False
        return False

    def _upload(self, remote: RemoteCheckpoints, saved: Saved) -> None:
        try:
            remote.upload(self._spool.folder / saved.name)
        except CheckpointError as error:  # not the store's fault: trying again would not help
            logger.warning("%s was not sent: %s", saved.name, error)
        self._spool.remove(saved.name)

    def _retain(self, remote: RemoteCheckpoints) -> None:
        stored = [saved for saved, _ in remote.list()]
        gone = set(remote.drop(saved.name for saved in self._surplus(stored)))
        self._stored = [saved for saved in stored if saved.name not in gone]
        if self._on_stored is not None:
            self._on_stored(live(self._stored, self._lineage))

    def _shorten_queue(self) -> None:
        """Forget what retention would delete as soon as it were sent: the queue is bounded."""
        for saved in self._surplus(self._spool.waiting()):
            logger.warning("%s is not sent: newer ones wait for the store too", saved.name)
            self._spool.remove(saved.name)

    def _surplus(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        return to_drop(
            saved,
            keep_last=self._retention.last,
            keep_best=self._retention.best,
            keep={one.name for one in saved if one.key in self._resumed_key} | self._pinned,
            lineage=self._lineage,
        )

    def _say_away(self, error: TrackingError) -> None:
        if not self._away:
            logger.warning(
                "the store takes no checkpoints now, they wait in %s: %s", self._spool.folder, error
            )
        self._away = True
