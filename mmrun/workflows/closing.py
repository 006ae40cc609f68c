"""How an attempt is closed: done, stopped or failed, with all that waits sent as far as it goes."""

import logging
import signal
import time
import traceback
from typing import TYPE_CHECKING, NoReturn

from mmrun.checkpoints.policy import live, newest
from mmrun.config.masking import hidden
from mmrun.errors import MmrunError, StopRequested, TrackingError
from mmrun.tracking.store import RunStatus, UnreachableError
from mmrun.training.stopping import TimeOver, in_words, limited
from mmrun.training.trouble import explained, in_one_line
from mmrun.workflows.averaging import average_last
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.done import FINISHED
from mmrun.workflows.failure import Failure

if TYPE_CHECKING:
    from mmrun.workflows.session import Session

logger = logging.getLogger(__name__)

SERVER_LOST = "loss of the tracking server"
FLUSH_S = 30.0
"""How long the end of a training waits for a server that is away; `mmrun sync` sends later."""
LEAST_S = 5.0
"""How long it waits for metrics, however long checkpoints took."""


def end(session: "Session") -> str:
    """Send what waits, and say that the training is done; or that it was stopped."""
    if session.trainer.stopped_on_wish and session.wish.reason is not None:
        _stop(session, session.wish.reason)
    session.wish.done = True
    step = session.trainer.step
    flush_s = _send_checkpoints(session, FLUSH_S)
    place = session.beginning.place
    session.lease.check()
    if (count := place.experiment.training.average_last) is not None:
        average_last(place, count, lineage=session.lineage)
    try:
        sent = session.attempt.close(FINISHED, status="FINISHED", flush_s=flush_s)
    except UnreachableError as away:
        raise TrackingError(
            f"the training is done at step {step} and saved in {place.output_dir}, but that could "
            f"not be recorded: {away}",
            hint=f"when the server answers again: mmrun sync {place.output_dir}",
        ) from away
    said = f"run {place.run_id} is done at step {step}"
    if place.offline:
        return f"{said}; it was trained offline: 'mmrun sync {place.output_dir}' records it"
    return said if sent else f"{said}; 'mmrun sync {place.output_dir}' sends the last metrics"


def _send_checkpoints(session: "Session", patience_s: float) -> float:
    """Send what waits, and say what is left; return how long metrics may take after that.

    A server that was waited for in vain is not waited for as long again.
    """
    begun = time.monotonic()
    publisher = session.publisher
    if patience_s:
        unsent = publisher.drain(patience_s, patient=lambda: session.wish.reason is None)
    else:  # all that there is time for is to say how it ended
        unsent = publisher.left()
    publisher.stop(at_once=not patience_s)
    if unsent and not session.beginning.place.offline:
        folder = session.beginning.place.output_dir
        logger.warning("not sent yet: %s; 'mmrun sync %s' sends it", ", ".join(unsent), folder)
    return max(patience_s - (time.monotonic() - begun), LEAST_S)


def _stop(session: "Session", reason: str) -> NoReturn:
    """Send what there is time for, and say that the training was stopped."""
    step = session.trainer.step
    session.publisher.settle()  # what was saved is whole before anything is cut short
    left_s = max(session.grace_s - session.wish.heard_s_ago, LEAST_S)
    ended = f"stopped by {reason}"
    try:
        with limited(left_s):
            flush_s = _send_checkpoints(session, max(left_s - 3 * LEAST_S, 0.0))
            session.lease.check()
            _close(session, ended, status="KILLED", flush_s=min(flush_s, LEAST_S))
            session.lease.release()
    except TimeOver:
        _leave(session, ended)
    again = _again(session.beginning)
    if reason == SERVER_LOST:
        raise TrackingError(
            "the tracking server did not answer for longer than tracking.server_loss_s; "
            f"stopped at step {step}, which is saved",
            hint=f"start the server; {again}",
        )
    raise StopRequested(
        f"stopped by {in_words(reason)} at step {step}, which is saved",
        hint=again,
        by_keyboard=session.wish.by_keyboard,
    )


def _stop_at_once(session: "Session") -> None:
    """Say that there was no time for a last checkpoint, as far as that can be said at once."""
    ended = "stopped at once"
    if session.attempt.closing:  # what the first signal asked for was being told to the store
        _leave(session, ended)
        return
    try:
        with limited(LEAST_S):
            session.publisher.stop(at_once=True)
            _close(session, ended, status="KILLED", flush_s=LEAST_S)
            session.lease.release()
    except TimeOver:
        _leave(session, ended)


def _leave(
    session: "Session", ended: str, *, status: RunStatus = "KILLED", error: str = ""
) -> None:
    """Let the next attempt, or a sync, tell the store what there was no time for."""
    session.attempt.leave(ended, status=status, error=error)
    session.lease.abandon()
    logger.warning(
        "no time to send everything: the next attempt or 'mmrun sync %s' does",
        session.beginning.place.output_dir,
    )


def _again(beginning: Beginning) -> str:
    """Return how to go on; the same words would not always do it."""
    place = beginning.place
    if place.reference is not None:
        return "the same command without --resume_from_checkpoint goes on from there"
    if place.fresh or place.experiment.training.overwrite_output_dir:
        return "the same command with --overwrite_output_dir false goes on from there"
    return "the same command goes on from there"


def fail(session: "Session", error: BaseException) -> BaseException:
    """Send what waits, say what ended the attempt, and return the error that the user is told.

    The wish is ``over`` by now: a signal makes it hurry, and changes nothing else.
    """
    if session.attempt.closing and not isinstance(error, KeyboardInterrupt):
        _give_back(session)
        return error
    if session.lease.lost.is_set():
        session.publisher.stop()
        session.sender.stop()  # another process writes to the run now
        return error
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises what workers die of
    session.attempt.reached(session.trainer.step)
    if isinstance(error, KeyboardInterrupt):
        _stop_at_once(session)
        return error
    failure, told = _say_failure(session, error)
    if isinstance(error, MmrunError):
        return error
    run_id = failure.record.run_id
    where = f"error.txt of run {run_id} says" if told else "--verbose shows"
    return MmrunError(
        f"{failure.problem}, after step {failure.step}",
        hint=f"{failure.hint or f'{where} where it happened'}; {failure.again}",
    )


def _say_failure(session: "Session", error: BaseException) -> tuple[Failure, bool]:
    """Say on this disk what failed, then send what waits and tell the store (False: later)."""
    failure = _failure(session, error)
    session.attempt.note("failed", status="FAILED", error=hidden(failure.text()))
    if not session.beginning.place.offline:
        logger.warning("%s, after step %d: sending what waits", failure.problem, failure.step)
    flush_s = LEAST_S
    try:
        with session.wish.hurrying(0):
            flush_s = _send_checkpoints(session, FLUSH_S)
            session.publisher.stop()
    except TimeOver:
        session.publisher.stop(at_once=True)
    except (MmrunError, OSError) as second:  # the first error is the one to be told
        logger.warning("%s", second)
        session.publisher.stop()
    failure = _failure(session, error)  # a checkpoint may have become whole meanwhile
    text = hidden(failure.text())
    try:
        with session.wish.hurrying(LEAST_S):
            told = _close(session, "failed", status="FAILED", flush_s=flush_s, error=text)
            session.lease.release()
    except TimeOver:
        _leave(session, "failed", status="FAILED", error=text)
        return failure, False
    return failure, told


def _give_back(session: "Session") -> None:
    """Give the run back, now that it is said how the attempt ended; a signal leaves it little."""
    try:
        with session.wish.hurrying(LEAST_S):
            session.lease.release()
    except TimeOver:
        session.lease.abandon()


def _failure(session: "Session", error: BaseException) -> Failure:
    known = error if isinstance(error, MmrunError) else explained(error)
    saved = newest(live(session.publisher.saved(), session.lineage))
    begun = session.beginning.step or None
    return Failure(
        problem=in_one_line(error) if known is None else str(known),
        hint="" if known is None else known.hint,
        trace="".join(traceback.format_exception(error)),
        record=session.attempt.record,
        step=max(session.trainer.step, session.beginning.step),
        time_ms=round(time.time() * 1000),
        resumes_from=begun if saved is None else saved.step,
    )


def _close(
    session: "Session", ended: str, *, status: RunStatus, flush_s: float, error: str = ""
) -> bool:
    """Close the attempt; what the server does not take now (False), the next attempt says."""
    try:
        session.attempt.close(ended, status=status, flush_s=flush_s, error=error)
    except TrackingError as away:
        logger.warning("the end of the attempt was not recorded: %s", away)
        return False
    return True
