"""Only one process works on a run: claims in its parameters, a heartbeat in its tags.

The claim ``mmrun.lease.<k>`` is a parameter, and parameters are immutable: of many that write the
same one at once, one wins. The newest claim holds the run until it is released, its process is
dead, or its heartbeat, a counter, stands still. No clocks of two machines are compared.

A process that is stopped for a while, or whose machine sleeps, may be replaced without knowing it.
So a holder that has not looked for some time looks before it writes (``confirm``), and whoever
takes a run from a process that may live waits for that time before it begins.
"""

import json
import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from mmrun.errors import TrackingError
from mmrun.tracking.process import ProcessId, is_alive, this_process
from mmrun.tracking.store import Run, RunStore, UnreachableError

logger = logging.getLogger(__name__)

BEAT_S = 10.0
_CLAIM = "mmrun.lease."
_BEAT = "mmrun.lease.heartbeat"
_RELEASED = "mmrun.lease.released"
BEATS_OF_SILENCE = 3
_BEATS_OF_TRUST = 1.5
"""For how long a holder believes what it saw; it looks at every beat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a run, as its newest claim says."""

    claim: int
    process: ProcessId
    since_s: float
    """Wall-clock time on the holder's machine; for messages only."""

    def __str__(self) -> str:
        age = max(time.time() - self.since_s, 0)
        return f"{self.process}, since {_duration(age)}"


def holder(run: Run) -> Holder | None:
    """Return who holds ``run``, dead or alive; None when its last claim was released."""
    newest = _newest_claim(run)
    if newest == 0 or run.tags.get(_RELEASED) == str(newest):
        return None
    try:
        content = json.loads(run.params[f"{_CLAIM}{newest}"])
        process = ProcessId(**content["process"])
        return Holder(claim=newest, process=process, since_s=float(content["since_s"]))
    except (ValueError, KeyError, TypeError):
        unknown = ProcessId(host="an unknown machine", pid=0, started=None, boot=None)
        return Holder(claim=newest, process=unknown, since_s=time.time())


def pulse(run: Run) -> str:
    """Return what changes while somebody works on a run: the newest claim, and its heartbeat."""
    return f"{_newest_claim(run)} {run.tags.get(_BEAT)} {run.tags.get(_RELEASED)}"


class Lease:
    """The right to write to a run, while the block lasts.

    ``lost`` is set when another process took the run over; ``reason`` then says which. The block
    must stop without writing to the run.
    """

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        *,
        steal: bool | None = None,
        gone: Holder | None = None,
        beat_s: float = BEAT_S,
        patience_s: float = 5.0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare to hold ``run_id``; ``steal`` takes it even from a living process.

        None is for what has no ``--steal``, which is then not advised. ``gone`` is a holder that is
        known to be dead; if another one has the run by now, that one is asked for as usual.
        ``patience_s`` is how long a write waits until it is known that the run is still held.
        """
        self._store = store
        self._run_id = run_id
        self._steal = steal
        self._gone = None if gone is None else gone.claim
        self._beat_s = beat_s
        self._patience_s = patience_s
        self._wait = wait
        self._claim = 0
        self._count = 0
        self._trust_s = _BEATS_OF_TRUST * beat_s
        self._looked_s = -math.inf
        self._looked = threading.Condition()
        self._look = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None
        self.lost = threading.Event()
        self.reason = ""

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the run, or raise ``TrackingError`` naming the process that has it."""
        run = self._store.read(self._run_id)
        held_by = holder(run)
        if held_by is not None and not self._steal and held_by.claim != self._gone:
            self._refuse_living(held_by, beat=run.tags.get(_BEAT))
        begun_s = _now_s()
        self._claim = _newest_claim(run) + 1
        owner = {
            "process": asdict(this_process()),
            "since_s": time.time(),
            "nonce": uuid.uuid4().hex,
        }
        key = f"{_CLAIM}{self._claim}"
        if not self._store.claim_param(self._run_id, key, json.dumps(owner)):
            winner = holder(self._store.read(self._run_id))
            raise self._refusal(f"{winner or 'another process'} was faster")
        self._looked_s = begun_s
        self._beat()
        self._thread = threading.Thread(target=self._keep, name="mmrun-lease", daemon=True)
        self._thread.start()
        if held_by is not None and self._steal and is_alive(held_by.process) is not False:
            logger.info("waiting %.0f s until %s has noticed", self._trust_s, held_by)
            self._wait(self._trust_s)

    def release(self) -> None:
        """Give the run back, so that the next one need not wait."""
        if self._thread is None:
            return
        try:
            self.confirm()
            self._stop()
            self._store.set_tags(self._run_id, {_RELEASED: str(self._claim)})
        except TrackingError as error:
            self._stop()
            if not self.lost.is_set():
                logger.warning("the lease of run %s was not released: %s", self._run_id, error)
        self._thread = None

    def abandon(self) -> None:
        """Beat no more, and tell nobody: the store is not there, or there is no time."""
        self._ended = True
        self._look.set()
        self._thread = None

    def check(self) -> None:
        """Raise ``TrackingError`` if the run was taken over."""
        if self.lost.is_set():
            raise TrackingError(
                f"run {self._run_id} was taken over by {self.reason}",
                hint="this process stopped without writing to it; let the other one go on",
            )

    def confirm(self) -> None:
        """Raise ``TrackingError`` unless it is known that the run is still held; before a write."""
        self.check()
        if self._is_sure():
            return
        with self._looked:
            self._look.set()
            self._looked.wait_for(
                lambda: self.lost.is_set() or self._is_sure(), timeout=self._patience_s
            )
        self.check()
        if not self._is_sure():
            raise UnreachableError(
                f"the tracking server does not say whether run {self._run_id} is still held",
                hint="start the server, or wait until it answers",
            )

    def _is_sure(self) -> bool:
        return _now_s() - self._looked_s <= self._trust_s

    def _refuse_living(self, held_by: Holder, *, beat: str | None) -> None:
        alive = is_alive(held_by.process)
        if alive is None:
            alive = self._still_beats(held_by, beat=beat)
        if alive:
            raise self._refusal(f"{held_by} works on it")
        logger.info("run %s was left by %s, which is gone", self._run_id, held_by)

    def _still_beats(self, held_by: Holder, *, beat: str | None) -> bool:
        """Watch a process of another machine for three beats."""
        for beats in range(BEATS_OF_SILENCE, 0, -1):
            logger.info(
                "run %s: waiting %.0f s for a sign of life of %s",
                self._run_id,
                beats * self._beat_s,
                held_by,
            )
            self._wait(self._beat_s)
            run = self._store.read(self._run_id)
            if run.tags.get(_BEAT) != beat or _newest_claim(run) != held_by.claim:
                return holder(run) is not None
        return False

    def _refusal(self, why: str) -> TrackingError:
        wait = "wait until it has ended, or stop it"
        stealing = "wait until it has ended, stop it, or take the run from it with --steal"
        return TrackingError(
            f"run {self._run_id} cannot be continued: {why}",
            hint=wait if self._steal is None else stealing,
        )

    def _keep(self) -> None:
        while True:
            self._look.wait(self._beat_s)
            self._look.clear()
            if self._ended:
                return
            try:
                self._see()
            except TrackingError as error:
                logger.debug("no heartbeat: %s", error)  # whoever could take over sees no server
            if self.lost.is_set():
                return

    def _stop(self) -> None:
        self._ended = True
        self._look.set()
        if self._thread is not None:
            self._thread.join(self._beat_s)

    def _see(self) -> None:
        """Look whether the run is still held, and show a sign of life."""
        begun_s = _now_s()
        run = self._store.read(self._run_id)
        lost = _newest_claim(run) != self._claim
        with self._looked:
            if lost:
                self.reason = str(holder(run) or "another process, which is done")
                self.lost.set()
            else:
                self._looked_s = begun_s
            self._looked.notify_all()
        if not lost:
            self._beat()

    def _beat(self) -> None:
        self._count += 1
        self._store.set_tags(self._run_id, {_BEAT: f"{self._claim}:{self._count}"})


def _now_s() -> float:
    """Return a clock that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _newest_claim(run: Run) -> int:
    names = (key.removeprefix(_CLAIM) for key in run.params if key.startswith(_CLAIM))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def _duration(seconds: float) -> str:
    minutes = int(seconds) // 60
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"


@contextmanager
def folder_lock(
    output_dir: Path, *, hint: str = "wait until it has ended, or choose another --output_dir"
) -> Iterator[None]:
    """Hold ``output_dir`` for this process alone; the lock ends with the process, however it dies.

    Raises ``TrackingError`` naming the process that has the folder, with ``hint``.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    named = output_dir / ".mmrun.pid"
    lock_file = output_dir / ".mmrun.lock"
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise TrackingError(
            f"{output_dir} is in use by {_named(named)}",
            hint=hint,
        ) from error
    except NotImplementedError:  # some network file systems have no locks; the lease remains
        logger.warning("%s cannot be locked: start no second process on it", output_dir)
    try:
        named.write_text(str(this_process()), encoding="utf-8")
        yield
    finally:
        named.unlink(missing_ok=True)
        if list(output_dir.iterdir()) == [lock_file]:  # refused: leave nothing behind
            lock_file.unlink()
            output_dir.rmdir()
        lock.release()


def _named(file: Path) -> str:
    with suppress(OSError):
        return file.read_text(encoding="utf-8") or "another process"
    return "another process"
