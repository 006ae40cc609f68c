"""One attempt of a run: opened, told what happens, closed.

Everything that is sent is on disk first; whatever dies, the next process finds the journal, the
spool and a record that says which attempt was under way.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Description
from mmrun.checkpoints.policy import Saved, best, newest
from mmrun.checkpoints.publisher import Publisher
from mmrun.tracking.attempts import (
    AttemptRecord,
    Overlap,
    is_timing,
    with_divergences,
)
from mmrun.tracking.journal import Clock, Journal
from mmrun.tracking.pending import Pending
from mmrun.tracking.replay import TAG, Divergence, in_words, replay_tag
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import Point, RunStatus, RunStore
from mmrun.workflows.ending import Ending, keep_ending, say_ending
from mmrun.workflows.records import keep_record, save_record, say_state

logger = logging.getLogger(__name__)

_STEPS = 64
"""For so many steps it is known what was logged: nobody logs for one that is long over."""


class Attempt:
    """What the training tells about itself, on its way to the journal and the store."""

    def __init__(
        self,
        record: AttemptRecord,
        *,
        store: RunStore,
        journal: Journal,
        sender: Sender,
        overlap: Overlap,
        clock: Clock,
        circumstances: Sequence[str] = (),
    ) -> None:
        """Prepare to be told; ``circumstances`` are what else is different from before."""
        self.record = record
        self._circumstances = circumstances
        self._replay = record.replay
        self._store = store
        self._journal = journal
        self._sender = sender
        self._overlap = overlap
        self._clock = clock
        self._pending = Pending(journal)
        self._logged: dict[int, dict[str, float]] = {}
        self._one_line = threading.Lock()
        self._one_record = threading.Lock()
        self._last_step = record.from_step
        self.closing = False
        """Whether ``close`` was called: how the attempt ends is decided then."""

    def open(self) -> None:
        """Write down that this attempt is under way."""
        keep_record(self._journal.folder, self.record)
        self._journal.begin()
        save_record(self._store, self.record)
        say_state(self._store, self.record, "running")
        self._store.set_status(self.record.run_id, "RUNNING")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Put one log line into the journal, each point once; any thread may call this."""
        with self._one_line:
            now_ms = self._clock.now_ms()
            self.reached(step)
            line = [
                Point(key, step, now_ms, value)
                for key, value in self._not_logged(values, step).items()
            ]
            if not self._overlap.is_over(step):
                line = self._settled(line)
            if line:
                self._journal.append(line)

    def _not_logged(self, values: Mapping[str, float], step: int) -> Mapping[str, float]:
        """Return what this attempt has not logged already for the step."""
        logged = self._logged.get(step)
        if logged is None:
            self._logged[step] = dict(values)
            if len(self._logged) > _STEPS:
                del self._logged[min(self._logged)]
            return values
        new = {
            key: value
            for key, value in values.items()
            if key not in logged
            # `epoch` comes with every line of a step; of timing the first one stays
            or (logged[key] != value and not is_timing(key))
        }
        logged.update(new)
        return new

    def _settled(self, line: Sequence[Point]) -> list[Point]:
        """Return what is to be logged of a step that earlier attempts did; write down the rest."""
        known_divergences = len(self._overlap.divergences)
        decisions = [(point, self._overlap.decide(point)) for point in line]
        if self._overlap.unknown:
            self._sender.compare(self._overlap.unknown, self._meet_again)
        if found := self._overlap.divergences[known_divergences:]:
            self._diverge(found, first=not known_divergences)
        if known := [point for point, decision in decisions if decision == "confirm"]:
            self._journal.confirm([self._overlap.earlier(point) for point in known])
        return [point for point, decision in decisions if decision != "confirm"]

    def _meet_again(self, points: Sequence[Point]) -> None:
        """Confirm what was found in the store only when it was sent."""
        with self._one_line:
            self._overlap.meet_again(points)
            self._journal.own.confirm(points, later=True)

    def _diverge(self, found: Sequence[Divergence], *, first: bool) -> None:
        """Write down, tell the store, and say once what came out otherwise than before."""
        self._journal.diverge(found)
        before, self._replay = self._replay, replay_tag(found, before=self._replay)
        if self._replay is not None and self._replay != before:
            self._sender.tag(TAG, self._replay)
        if first:
            logger.warning(
                "%s; both are kept, and the tag %s says so",
                in_words(found[0], circumstances=self._circumstances),
                TAG,
            )

    def reached(self, step: int) -> None:
        """Note how far the training has come, logged or not."""
        self._last_step = max(self._last_step, step)

    # What becomes of checkpoints, told by the threads that take them to the store

    def queued(self, step: int, *, queue_bytes: int) -> None:
        """Log how much waits for the store."""
        self.log({"mmrun/queue_bytes": float(queue_bytes)}, step)

    def sending(self) -> None:
        """Record what was confirmed: who goes on from the checkpoint may not have the journal."""
        with self._one_record:
            current = self._current()
            if current.confirmed and not self.closing:
                save_record(self._store, current)

    def sent(self, saved: Saved, *, seconds: float) -> None:
        """Log how long an upload took."""
        self.log({"mmrun/upload_s": seconds}, saved.step)

    def settled(self, stored: Sequence[Saved] | None) -> None:
        """Bring tags and record up to date, so that a death after this loses nothing of them."""
        with self._one_record:
            if self.closing:  # what is said of the end is not to be replaced
                return
            if stored:
                self._store.set_tags(self.record.run_id, checkpoint_tags(stored))
            save_record(self._store, self._current())

    def _current(self) -> AttemptRecord:
        with self._one_line:  # the journal and what is said of it are of one moment
            return replace(
                with_divergences(self.record, self._overlap.divergences),
                to_step=self._last_step,
                confirmed=self._overlap.confirmed(),
                latest_ms=self._clock.last_ms,
                journaled=self._journal.own.size(),
            )

    def close(self, ended: str, *, status: RunStatus, flush_s: float, error: str = "") -> bool:
        """Send what is left, then say how the attempt ended; False if something is unsent."""
        with self._one_record:
            self.closing = True
        sent = self._sender.flush(flush_s)
        self._sender.stop()
        self.record = replace(self._current(), ended=ended, ended_ms=self._clock.now_ms())
        ending = Ending(record=self.record, status=status, error=error)
        say_ending(self._store, self._journal.folder, ending)
        return sent

    def note(self, ended: str, *, status: RunStatus, error: str) -> None:
        """Write on this disk how the attempt ended, before there is time to ``close`` it."""
        record = replace(self._current(), ended=ended, ended_ms=self._clock.now_ms())
        keep_ending(self._journal.folder, Ending(record=record, status=status, error=error))

    def leave(self, ended: str, *, status: RunStatus, error: str = "") -> None:
        """Say how the attempt ended on this disk only; the next one, or a sync, tells the store."""
        self.closing = True
        self.note(ended, status=status, error=error)

    def take_over(self, carried: Iterable[Point]) -> None:
        """Send, first of all, what a checkpoint from another machine carries."""
        self._journal.import_unsent(carried)

    def carry(self, folder: Path, *, step: int) -> None:
        """Let the checkpoint of ``step`` have the points that the server has not acknowledged."""
        self._pending.write(folder, step=step)


class Saver:
    """The training's way to checkpoints: a folder to write to, then the publisher.

    How long the training thread is held up beyond the writing is the metric
    ``mmrun/checkpoint_stall_s``.
    """

    def __init__(
        self,
        local: LocalCheckpoints,
        publisher: Publisher,
        *,
        description: Description,
        attempt: Attempt,
        check: Callable[[], None],
    ) -> None:
        """Prepare to save; ``check`` raises when the run is another process's by now."""
        self._local = local
        self._publisher = publisher
        self._description = description
        self._attempt = attempt
        self._check = check
        self._opening_s = 0.0

    def open(self, step: int) -> Path:
        """Return an empty folder for the files of ``step``."""
        begun = time.perf_counter()
        self._publisher.check()
        folder = self._local.partial(step)
        self._opening_s = time.perf_counter() - begun
        return folder

    def publish(
        self,
        folder: Path,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float],
        constant: Collection[str],
    ) -> None:
        """Hand the folder over; the points that the server does not have yet go with it."""
        begun = time.perf_counter()
        self._check()
        self._attempt.reached(step)
        self._publisher.publish(
            folder,
            self._description.model_copy(
                update={"step": step, "epoch": epoch, "metrics": dict(metrics)}
            ),
            constant=constant,
            complete=lambda: self._attempt.carry(folder, step=step),
        )
        stall_s = self._opening_s + time.perf_counter() - begun
        self._attempt.log({"mmrun/checkpoint_stall_s": stall_s}, step)


def checkpoint_tags(stored: Sequence[Saved]) -> Mapping[str, str]:
    """Return the hints for people: which checkpoint is latest, which is best."""
    return {
        f"mmrun.checkpoint.{what}": saved.name
        for what, saved in (("latest", newest(stored)), ("best", best(stored)))
        if saved is not None
    }
