"""The one thread that sends checkpoints to the store; training never waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

from tenacity import Retrying, retry_if_result, stop_when_event_set, wait_exponential

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.at_once import Stopped, check
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Lineage, Retention, Saved, live, newest_first, to_drop
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.retention import Key, select
from mmrun.checkpoints.spool import Spool
from mmrun.errors import CheckpointError, TrackingError
from mmrun.progress import follow_until
from mmrun.tracking.store import UnreachableError

logger = logging.getLogger(__name__)

_LONGEST_QUEUE = 16
"""More checkpoints than this never wait, however many are to be kept."""
_LONGEST_PAUSE_S = 30.0
_AGAIN_S = 2.0
"""How soon a store that is away is asked again when somebody waits for it."""
_REFUSALS = 3
_UNDER_WAY_S = 5.0
"""How much longer than its time ``drain`` waits for a request that was begun."""
_JOIN_S = 5.0


class Listener(Protocol):
    """What is told of checkpoints on their way to the store, from the threads that do it."""

    def queued(self, step: int, *, queue_bytes: int) -> None:
        """The checkpoint of ``step`` waits for the store, ``queue_bytes`` with all that wait."""
        ...

    def sending(self) -> None:
        """An upload begins; once it has ended, another machine may go on from there."""
        ...

    def sent(self, saved: Saved, *, seconds: float) -> None:
        """``saved`` is in the store now."""
        ...

    def settled(self, stored: Sequence[Saved] | None) -> None:
        """What the store takes was sent and retained; None where there is none for checkpoints."""
        ...


class Uploader:
    """Sends what waits in the spool, newest first, and then removes what is not to be kept.

    A store that is out of reach costs no checkpoint: what could not be sent waits in the spool and
    is tried again, with growing pauses; another process finds it there, too.

    Args:
        remote: the run's checkpoints in the store; None where they stay on disk.
        spool: where finished checkpoints wait.
        retention: how many are kept in the store.
        lineage: the attempts of the run.
        keep: step and attempt of others that are never removed.
        listener: is told what was done.
        may_write: whether this process still holds the run.
    """

    def __init__(
        self,
        remote: RemoteCheckpoints | None,
        spool: Spool,
        *,
        retention: Retention,
        lineage: Lineage = (),
        keep: Collection[Key] = (),
        listener: Listener | None = None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self.stored: Sequence[Saved] = ()
        """What is in the store, as far as is known."""
        self._remote = remote
        self._spool = spool
        self._retention = retention
        self._lineage = lineage
        self._keep = frozenset(keep)
        self._listener = listener
        self._may_write = may_write
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._queue = threading.Lock()
        self._begun: str | None = None
        self._collected = False
        self._away = False
        self._keeps_all = False
        self._round_ended = threading.Condition()
        self._asked = 0
        self._served = 0
        self._clean = True
        self._refused = False
        """Whether the last try was answered with a no."""

    def wake(self) -> None:
        """Look at the spool now."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mmrun-uploader", daemon=True)
            self._thread.start()
        self._wake.set()

    def drain(self, timeout_s: float, *, patient: Callable[[], bool] = lambda: False) -> None:
        """Send what waits, trying again for ``timeout_s``, with a progress bar.

        As long as ``patient`` says so, uploads that get on take the time that they need, and only
        that of a store that is away counts. One that answers and refuses (its disk is full) is
        asked a few times only. Where nobody sends any more, there is nothing to wait for.
        """
        if self._stopping.is_set():
            return
        deadline = time.monotonic() + timeout_s
        wanted = self._ask()
        refusals = 0

        def done(seconds: float) -> bool:
            nonlocal wanted, refusals, deadline
            if self._is_over():
                return True
            with self._round_ended:
                served = self._round_ended.wait_for(lambda: self._served >= wanted, timeout=seconds)
            now = time.monotonic()
            if patient() and not self._away:
                deadline = now + timeout_s
            if not served:
                return now >= deadline + _UNDER_WAY_S
            refusals += self._refused
            if self._clean or now >= deadline or refusals >= _REFUSALS:
                return True
            time.sleep(min(_AGAIN_S, max(deadline - now, 0)))
            wanted = self._ask()
            return False

        total = self._spool.size()
        follow_until(
            done,
            amount=lambda: total - self._spool.size(),
            total=total,
            label="sending checkpoints",
        )

    def _is_over(self) -> bool:
        """Whether no round will end any more, since the thread was stopped or died."""
        return self._stopping.is_set() or self._thread is None or not self._thread.is_alive()

    def _ask(self) -> int:
        """Ask for a round that begins from now on; return its number."""
        with self._round_ended:
            self._asked += 1
            wanted = self._asked
        self.wake()
        return wanted

    def stop(self, *, at_once: bool = False) -> None:
        """Send nothing more; a request under way may still end, no other is begun.

        It is waited for a little, unless all is to end ``at_once``.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread is not None and not at_once:
            self._thread.join(_JOIN_S)

    def shorten_queue(self, *, expected: bool = False) -> None:
        """Forget what retention would delete as soon as it were sent: the queue is bounded.

        That is the oldest that is not the best one and whose upload has not begun. It is said,
        unless it was ``expected``.
        """
        level = logging.DEBUG if expected else logging.WARNING
        with self._queue:
            for saved in self._surplus(self._spool.waiting()):
                if saved.name != self._begun:
                    logger.log(
                        level, "%s is not sent: newer ones wait for the store too", saved.name
                    )
                    self._spool.remove(saved.name)

    def surplus_of(self, saved: Sequence[Saved]) -> Sequence[Saved]:
        """Return those of ``saved`` that retention would not keep in the store."""
        return to_drop(
            saved,
            keep_last=self._retention.last,
            keep_best=self._retention.best,
            keep={one.name for one in saved if one.key in self._keep},
            lineage=self._lineage,
        )

    def _surplus(self, waiting: Sequence[Saved]) -> Sequence[Saved]:
        surplus = list(self.surplus_of(waiting))
        doomed = {one.name for one in surplus}
        left = [one for one in waiting if one.name not in doomed]
        return surplus + to_drop(left, keep_last=_LONGEST_QUEUE, keep_best=1, lineage=self._lineage)

    def _work(self) -> None:
        trials = Retrying(
            stop=stop_when_event_set(self._stopping),
            wait=wait_exponential(multiplier=0.5, max=_LONGEST_PAUSE_S),
            sleep=self._pause,
            retry=retry_if_result(lambda clean: not clean),
            retry_error_callback=lambda _: None,
        )
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            trials(self._round)

    def _pause(self, seconds: float) -> None:
        self._wake.wait(seconds)  # a new checkpoint, or the end, is a reason to try again
        self._wake.clear()

    def _round(self) -> bool:
        """Send everything once; False if something is left because of the store."""
        with self._round_ended:
            asked = self._asked
        clean = self._tried()
        with self._round_ended:
            self._served, self._clean = asked, clean
            self._round_ended.notify_all()
        return clean

    def _tried(self) -> bool:
        try:
            self._serve()
        except Stopped:
            return True  # something may be left, and it is not this process that sends it
        except TrackingError as error:
            self._refused = not isinstance(error, UnreachableError)
            self._say_away(error)
            self.shorten_queue()
            return False
        except Exception as error:  # a fault here must not end in lost checkpoints
            logger.debug("while sending checkpoints", exc_info=True)
            self._say_away(error)
            return False
        if self._away:
            logger.info("the store takes checkpoints again, all have been sent")
        self._away = False
        return True

    def _serve(self) -> None:
        refused = self._send_all()
        check(self._may_go_on)
        self._settle()
        if refused:
            raise refused[0]

    def _may_go_on(self) -> bool:
        return not self._stopping.is_set() and self._may_write()

    def _send_all(self) -> Sequence[TrackingError | OSError]:
        """Upload what waits, newest first; return why some were refused: others are sent still."""
        refused: dict[str, TrackingError | OSError] = {}
        while self._remote is not None and self._may_go_on():
            saved = self._next(but=refused)
            if saved is None:
                break
            try:
                self._send(self._remote, saved)
            except UnreachableError:
                raise
            except (TrackingError, OSError) as error:
                refused[saved.name] = error
                self._collected = False  # what arrived of it takes room in a store that is full
            finally:
                self._begun = None
        return list(refused.values())

    def _next(self, *, but: Collection[str]) -> Saved | None:
        """Return the newest checkpoint that waits, and begin with it; None if none does."""
        with self._queue:
            waiting = [saved for saved in self._spool.waiting() if saved.name not in but]
            self._begun = waiting[-1].name if waiting else None
        return waiting[-1] if waiting else None

    def _send(self, remote: RemoteCheckpoints, saved: Saved) -> None:
        begun = time.monotonic()
        try:
            self._upload(remote, saved.name)
        except CheckpointError as error:  # not the store's fault: trying again would not help
            self._spool.reject(saved.name, str(error))
            return
        except (TrackingError, OSError) as error:
            self._spool.note(saved.name, error=str(error))
            raise
        self._spool.remove(saved.name)
        if self._listener is not None:
            self._listener.sent(saved, seconds=time.monotonic() - begun)

    def _upload(self, remote: RemoteCheckpoints, waiting: str) -> None:
        folder = self._spool.folder / waiting
        begun = self._spool.state(waiting).begun
        manifest = manifests.read(folder)
        name, stands = remote.name_for(manifest, begun=begun)
        if not stands:
            if not self._spool.trusts(waiting):
                self._verify(folder, manifest)
                self._spool.trust(waiting)
            self._spool.begin(waiting, as_=name)
            if self._listener is not None:
                self._listener.sending()
            remote.upload(folder, name=name, may_go_on=self._may_go_on)

    def _verify(self, folder: Path, manifest: Manifest) -> None:
        """Refuse to send damaged content, which would count as whole in the store by its sizes."""
        problem = manifests.problem_with(folder, manifest, digests=False)
        if problem is not None:
            raise CheckpointError(problem)
        for entry in manifest.files:
            check(self._may_go_on)
            if damage := manifests.content_problem(folder / entry.path, entry):
                raise CheckpointError(damage)

    def _settle(self) -> None:
        if self._remote is not None:
            self.stored = self._retained(self._remote)
            check(self._may_go_on)
        if self._listener is not None:
            listed = None if self._remote is None else live(self.stored, self._lineage)
            self._listener.settled(listed)

    def _retained(self, remote: RemoteCheckpoints) -> Sequence[Saved]:
        """Remove what is not to be kept; return what is left."""
        selected = select(
            remote,
            retention=self._retention,
            lineage=self._lineage,
            keep=self._keep,
        )
        if self._keeps_all:
            return [*selected.stay, *selected.go]
        try:
            doomed = [one.name for one in selected.go]
            gone = remote.drop(doomed, may_go_on=self._may_go_on)
            if gone or not self._collected:
                remote.collect(may_go_on=self._may_go_on)
                self._collected = True
        except UnreachableError:
            raise
        except TrackingError as error:
            logger.warning("the store does not delete, so old checkpoints stay there: %s", error)
            self._keeps_all = True
            return [*selected.stay, *selected.go]
        return newest_first([*selected.stay, *(o for o in selected.go if o.name not in gone)])

    def _say_away(self, error: Exception) -> None:
        if not self._away:
            logger.warning(
                "the store takes no checkpoints now, they wait in %s: %s", self._spool.folder, error
            )
        self._away = True
