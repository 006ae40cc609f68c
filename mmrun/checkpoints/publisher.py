"""From a written partial folder to a checkpoint on disk and in the store, off the training thread.

The training thread hands a folder over and goes on. One thread makes it a checkpoint (flush,
digests, manifest, rename), links and rotates, and puts it into the spool; another one, the
uploader's, sends it, so that a store that hangs never holds up what happens on disk.
"""

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from mmrun.checkpoints.entry import folder_name
from mmrun.checkpoints.local import LocalCheckpoints, not_saved
from mmrun.checkpoints.manifest import Description, Manifest
from mmrun.checkpoints.policy import Lineage, Retention, Saved
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.retention import Key
from mmrun.checkpoints.spool import Spool
from mmrun.checkpoints.uploader import Listener, Uploader
from mmrun.errors import TrackingError

logger = logging.getLogger(__name__)

_AHEAD = 2
"""Written folders that may wait to be finished; a disk that is slower than this slows training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A folder that the training thread has filled."""

    partial: Path
    description: Description
    constant: Collection[str]
    complete: Callable[[], object]


class Publisher:
    """Does everything that follows once the Trainer has written its files.

    Args:
        local: the checkpoints on disk.
        remote: those in the store; None keeps them on disk only.
        run_id: the run they belong to.
        spool: where they wait for the store.
        retention: how many are kept.
        lineage: the attempts of the run.
        resumed_from: the checkpoint this attempt started from; it is never removed.
        listener: is told of uploads.
        may_write: whether this process still holds the run.
        sends: whether what is in the spool is sent by this process, or by a later one.
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
        listener: Listener | None = None,
        may_write: Callable[[], bool] = lambda: True,
        sends: bool = True,
    ) -> None:
        self._local = local
        self._sends = sends
        self._remote = remote
        self._run_id = run_id
        self._spool = Spool(spool, run_id=run_id)
        self._keep_local = retention.local
        self._lineage = lineage
        self._kept: set[Key] = (
            set() if resumed_from is None else {(resumed_from.step, resumed_from.attempt)}
        )
        self._uploader = Uploader(
            remote,
            self._spool,
            retention=retention,
            lineage=lineage,
            keep=self._kept,
            listener=listener,
            may_write=may_write,
        )
        self._listener = listener
        self._before = resumed_from
        self._not_queued: dict[str, Manifest] = {}
        self._written: Queue[_Written | None] = Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._linkless = False

    def recover(self) -> None:
        """Remove scratch folders of a dead process and queue what it had not yet sent.

        To be called once, by the process that holds the run, before training starts.
        """
        self._local.tidy()
        self._spool.tidy()
        self._local.supersede(self._lineage)
        if self._remote is not None:
            self._queue_missing(self._remote)
        self._link()
        self._wake()

    def publish(
        self,
        partial: Path,
        description: Description,
        *,
        constant: Collection[str] = (),
        complete: Callable[[], object] = lambda: None,
    ) -> None:
        """Take over ``partial``, to make it a checkpoint here and in the store; returns at once.

        Args:
            partial: A folder from ``LocalCheckpoints.partial``, filled.
            description: What the training knows of the checkpoint.
            constant: Paths of files that training does not change.
            complete: Adds what is not there yet; called in the background, before the digests.

        Raises:
            CheckpointError: an earlier one could not be finished, so there is no point in going on.
        """
        self.check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mmrun-finisher", daemon=True)
            self._thread.start()
        self._written.put(
            _Written(partial=partial, description=description, constant=constant, complete=complete)
        )

    def check(self) -> None:
        """Raise what went wrong in the background, once."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def saved(self) -> Sequence[Saved]:
        """Return what lies on this disk and in the store, as far as is known."""
        return [*self._local.every(), *self._uploader.stored]

    def settle(self) -> None:
        """Wait until everything that was handed over is a checkpoint on disk."""
        self._written.join()
        self.check()

    def drain(
        self, timeout_s: float, *, patient: Callable[[], bool] = lambda: False
    ) -> Sequence[str]:
        """Finish what was handed over, send what waits for up to ``timeout_s``; return the rest.

        As long as ``patient`` says so, only the time counts in which the store is away.
        """
        self.settle()
        if self._remote is None:
            return []
        self._queue_again()
        if self._sends:
            self._uploader.drain(timeout_s, patient=patient)
        self._link()
        return self.left()

    def left(self) -> Sequence[str]:
        """Return what is not in the store, of all that is to go there."""
        if self._remote is None:
            return []
        waiting = [saved.name.rpartition("/")[2] for saved in self._spool.waiting()]
        return [*waiting, *self._not_queued]

    def stop(self, *, at_once: bool = False) -> None:
        """End the threads; what is not sent stays in the spool.

        ``at_once`` leaves what is being finished as it is, for the death of the process to end.
        """
        if self._thread is not None and not at_once:
            self._written.put(None)
            self._thread.join()
            self._thread = None
        self._uploader.stop(at_once=at_once)

    def _queue_missing(self, remote: RemoteCheckpoints) -> None:
        """Queue checkpoints that a killed process had renamed but not yet spooled."""
        try:
            if self._sends:
                self._uploader.stored, _ = remote.look()
        except TrackingError as error:
            # What is there already is not sent again; what is not must not be rotated away.
            logger.warning("the store does not say which checkpoints it has: %s", error)
        stored = self._uploader.stored
        here = {saved.key: (saved, manifest) for saved, manifest in self._local.list()}
        there = {saved.key for saved in stored}
        every = [saved for saved, _ in here.values()]
        every += [saved for saved in stored if saved.key not in here]
        unwanted = {saved.key for saved in self._uploader.surplus_of(every)}
        for key, (saved, manifest) in here.items():
            if key not in there and key not in unwanted and manifest.run_id == self._run_id:
                self._queue(saved.name, manifest)

    def _work(self) -> None:
        while (written := self._written.get()) is not None:
            try:
                self._finish(written)
            except BaseException as error:  # noqa: BLE001 (raised again on the training thread)
                self._failure = self._failure or error
            finally:
                self._written.task_done()
        self._written.task_done()

    def _finish(self, written: _Written) -> None:
        try:
            written.complete()
        except OSError as error:
            raise not_saved(written.description.step, self._local.folder, error) from error
        manifest = self._local.finish(
            written.partial,
            written.description,
            lineage=self._lineage,
            constant=written.constant,
            before=self._before,
        )
        self._before = manifest
        if self._remote is not None:
            self._queue_again()
            self._queue(folder_name(manifest.step), manifest)
            self._uploader.shorten_queue(expected=not self._sends)
            if self._listener is not None:
                self._listener.queued(manifest.step, queue_bytes=self._spool.size())
        self._link()
        self._rotate()
        self._wake()

    def _wake(self) -> None:
        if self._sends:
            self._uploader.wake()

    def _queue(self, name: str, manifest: Manifest) -> None:
        try:
            self._spool.add(self._local.path(name), manifest)
        except OSError as error:  # it is safe where it lies
            logger.warning("%s is saved, but could not be queued for the store: %s", name, error)
            self._not_queued[name] = manifest

    def _queue_again(self) -> None:
        """Queue what could not be queued before, where it still lies."""
        waiting, self._not_queued = self._not_queued, {}
        for name, manifest in waiting.items():
            if self._local.path(name).exists():
                self._queue(name, manifest)

    def _link(self) -> None:
        try:
            self._local.link(self._lineage, elsewhere=self._uploader.stored)
        except OSError as error:  # they are for people; nothing is found by them
            if not self._linkless:
                logger.warning("%s has no links to last and best: %s", self._local.folder, error)
            self._linkless = True

    def _rotate(self) -> None:
        kept = {saved.key for saved in self._spool.waiting()} | self._kept
        kept |= {(one.step, one.attempt) for one in self._not_queued.values()}
        keep = {saved.name for saved in self._local.every() if saved.key in kept}
        try:
            self._local.rotate(self._keep_local, keep=keep, lineage=self._lineage)
        except OSError as error:
            logger.warning("old checkpoints stay in %s: %s", self._local.folder, error)
