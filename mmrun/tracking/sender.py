"""The one thread that sends journaled points to the server; training never waits for it."""

import logging
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from mmrun import faults
from mmrun.errors import TrackingError
from mmrun.progress import follow_until
from mmrun.tracking.attempts import Start, in_time
from mmrun.tracking.elsewhere import Elsewhere
from mmrun.tracking.journal import Batch, Journal, PointLog
from mmrun.tracking.store import Point, RunStore

logger = logging.getLogger(__name__)

_BATCH = 1000
"""What a server takes in one request."""
_TAKEN = re.compile(r"[\w\-. :/]{1,250}", re.ASCII)
"""Metric names that MLflow accepts."""
_JOIN_S = 5.0
_TURN_S = 0.0005
"""So long this thread computes while another one waits. With Python's own 5 ms, whoever logs a line
would wait for that long after each, since writing it gives the turn away."""


class Sender:
    """Sends what the journals hold about once a second, and backs off while the server is away."""

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        journal: Journal,
        *,
        lineage: Sequence[tuple[int, int]] = (),
        starts: Sequence[Start] = (),
        sends: bool = True,
        every_s: float = 1.0,
        longest_pause_s: float = 30.0,
    ) -> None:
        """Prepare to send the points of ``journal``, and what earlier attempts left unsent.

        ``lineage`` are those attempts and the step where each began. What one of them logged again
        in another folder is not sent; the journal's own attempt knew what was logged before it.
        ``starts`` say when each began: what an attempt logged after the next one's start, not
        knowing of it, gets the last time stamp before, by which it is told whose it is.
        Without ``sends`` everything stays in the journal, for a later process to send.
        """
        self._store = store
        self._run_id = run_id
        self._folder = journal.folder
        self._logs = journal.logs()
        self._own = journal.own
        self._elsewhere = Elsewhere(store, run_id, journal, lineage=lineage)
        self._starts = starts
        self._sends = sends
        self._every_s = every_s
        self._longest_pause_s = longest_pause_s
        self._wake = threading.Event()
        self._stopping = False
        self._turn_s = sys.getswitchinterval()
        self._changed = threading.Condition()
        self._asked = 0
        self._served = 0
        self._urgent_until = 0.0
        self._left_out: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._told: Mapping[str, str] = {}
        self._unknown = range(0)
        self._meet_again: Callable[[Sequence[Point]], None] = lambda _: None
        self._thread = threading.Thread(target=self._work, name="mmrun-sender", daemon=True)
        self.doubles = 0
        """Points that the store had from an attempt in another folder."""
        self.away_since: float | None = None
        """When the server was first found away, on the monotonic clock; None while it answers."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to send."""
        if not self._sends:
            return
        self._turn_s = sys.getswitchinterval()
        sys.setswitchinterval(min(self._turn_s, _TURN_S))
        self._thread.start()

    def compare(self, steps: range, meet_again: Callable[[Sequence[Point]], None]) -> None:
        """Look in the store, too, for what the journal's own attempt logs for ``steps``.

        It could not learn what was logged for them before. ``meet_again`` is told what of that it
        has logged again.
        """
        self._elsewhere.widen(steps.start)
        self._meet_again = meet_again
        self._unknown = steps

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the run as soon as the server takes it; any thread may call this."""
        self._tags = {**self._tags, name: value}
        self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        """Send now what is journaled; False if the server did not take it within the time."""
        if not self._thread.is_alive():
            return False
        with self._changed:
            self._asked += 1
            wanted = self._asked
            self._urgent_until = time.monotonic() + timeout_s
            self._wake.set()
            return self._changed.wait_for(lambda: self._served >= wanted, timeout=timeout_s)

    def drain(self, patience_s: float) -> bool:
        """Send all that waits, with a progress bar; False if something is left.

        However much it is: only the time counts in which the server takes nothing.
        """
        total = left = self._waiting()
        deadline = time.monotonic() + patience_s
        sent = False

        def done(seconds: float) -> bool:
            nonlocal left, deadline, sent
            sent = self.flush(seconds)
            if sent or not self._thread.is_alive():
                return True
            if self._waiting() < left:
                left, deadline = self._waiting(), time.monotonic() + patience_s
            return time.monotonic() >= deadline

        follow_until(
            done, amount=lambda: total - self._waiting(), total=total, label="sending metrics"
        )
        return sent

    def _waiting(self) -> int:
        """Return the bytes of the journals that the server has not acknowledged."""
        return sum(log.waiting for log in self._logs)

    def stop(self) -> None:
        """Send nothing more; what is left stays in the journal. ``flush`` comes before."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            sys.setswitchinterval(self._turn_s)
            self._thread.join(_JOIN_S)  # a request under way may take longer: it does no harm

    def _work(self) -> None:
        pause = self._every_s
        while not self._stopping:
            self._wake.clear()
            asked = self._asked
            sent = self._try_round()
            if sent:
                with self._changed:
                    self._served = asked
                    self._changed.notify_all()
            urgent = time.monotonic() < self._urgent_until
            pause = self._every_s if sent or urgent else min(2 * pause, self._longest_pause_s)
            self._wake.wait(pause)

    def _try_round(self) -> bool:
        try:
            self._send_tags()
            for log in self._logs:
                self._send_all(log)
        except TrackingError as error:
            self._away(str(error))
            return False
        except Exception as error:  # a fault here must not end in lost points
            self._away(f"{type(error).__name__}: {error}")
            logger.debug("while sending metrics", exc_info=True)
            return False
        self._back()
        return True

    def _send_tags(self) -> None:
        tags = self._tags
        if tags != self._told:
            self._store.set_tags(self._run_id, tags)
            self._told = tags

    def _send_all(self, log: PointLog) -> None:
        log.flush()
        self._elsewhere.forget()  # what the log before had may be stored now
        while not self._stopping and (batch := log.batch(limit=_BATCH)).until > log.sent:
            sendable = [point for point in self._in_time(batch, log) if self._sendable(point)]
            points = self._without_doubles(sendable, log)
            if points:
                self._store.log_points(self._run_id, points)
                faults.reach("points.sent", step=points[-1].step)
            self.doubles += len(sendable) - len(points)
            log.acknowledge(batch.until, flushed=len(batch.points) < _BATCH)  # not while more waits

    def _in_time(self, batch: Batch, log: PointLog) -> Sequence[Point]:
        """Return the points with time stamps that are their attempt's and no later one's."""
        if log.carried or log is self._own:
            return batch.points
        return in_time(batch.points, attempt=log.attempt, starts=self._starts)

    def _without_doubles(self, points: Sequence[Point], log: PointLog) -> list[Point]:
        """Return what the store does not have yet.

        Where it has an older point, the attempt met that value again without knowing of it.
        """
        found = [(point, self._there(point, log)) for point in points]
        met_again = [
            there for point, there in found if there and there.timestamp_ms < point.timestamp_ms
        ]
        if met_again and log is self._own:
            self._meet_again(met_again)
        elif met_again and not log.carried:
            log.confirm(met_again, later=True)  # before these points count as sent
        return [point for point, there in found if there is None]

    def _there(self, point: Point, log: PointLog) -> Point | None:
        own = log is self._own and point.step not in self._unknown
        return None if own else self._elsewhere.find(point)

    def _sendable(self, point: Point) -> bool:
        if math.isinf(point.value):  # MLflow would store 1.8e308
            self._leave_out(point, reason="is infinite")
            return False
        if not _TAKEN.fullmatch(point.key):
            self._leave_out(point, reason="has a name that MLflow does not take")
            return False
        return True

    def _leave_out(self, point: Point, *, reason: str) -> None:
        if point.key in self._left_out:
            return
        self._left_out[point.key] = f"{point.key}@{point.step}"
        logger.warning(
            "the metric %r %s at step %d: such points stay in the journal and are not sent",
            point.key,
            reason,
            point.step,
        )
        tag = ", ".join(self._left_out.values())
        self._store.set_tags(self._run_id, {"mmrun.not_sent": tag})

    def _away(self, reason: str) -> None:
        if self.away_since is None:
            self.away_since = time.monotonic()
            logger.warning("%s; metrics are kept in %s and sent later", reason, self._folder)

    def _back(self) -> None:
        if self.away_since is not None:
            away_s = time.monotonic() - self.away_since
            self.away_since = None
            logger.info("the tracking server is back after %.0f s; all metrics sent", away_s)
