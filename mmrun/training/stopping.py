"""A wish to stop, from a signal to the end of the step."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mmrun.errors import StopRequested
from mmrun.tracking import orphan
from mmrun.training.trouble import AGAIN

logger = logging.getLogger(__name__)

_ECHO_S = 2.0
"""A wrapper passes one wish on with several signals; within this time they are one."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_STDERR = 2
_WRAPPER_GONE = "the end of its launcher"
"""Of `mlflow run`, `dvc repro` or `torchrun`."""


def in_words(reason: str) -> str:
    """Return what asked to stop, as people call it."""
    return "Ctrl-C" if reason == "SIGINT" else reason


class _AtOnce(KeyboardInterrupt):
    """Ends what runs now; no ``Exception``, which libraries catch and take for a fault."""

    def __init__(self, asked: StopRequested) -> None:
        super().__init__()
        self.asked = asked


@contextmanager
def said_in_words() -> Iterator[None]:
    """Let what was asked for come out of the block."""
    try:
        yield
    except _AtOnce as at_once:
        raise at_once.asked from None


class TimeOver(BaseException):
    """There was only so much time; no ``Exception``, which libraries catch and try again."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Let the block take so long; then ``TimeOver`` ends what it waits for, a request too."""
    with _alarm():
        _ring_in(seconds)
        yield


@contextmanager
def _alarm() -> Iterator[None]:
    """Turn the alarm, should it ring in the block, into ``TimeOver``."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeOver

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _ring_in(seconds: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))


class StopWish:
    """Set by a signal; read by the training loop at the end of each step."""

    def __init__(self, *, echoed: bool = False) -> None:
        """Prepare to listen; ``echoed`` where a launcher passes on what we are sent as well."""
        self._echoed = echoed
        self.reason: str | None = None
        """Name of the signal, or what else asked to stop; None while training goes on."""
        self.training = False
        """Whether there is a step to finish and to save; before that a signal ends at once."""
        self.done = False
        """Whether the last step is done, so that a wish changes nothing."""
        self.over = False
        """Whether the attempt has failed or was ended at once: no signal ends it once more."""
        self._hurried = False
        self._limit_s: float | None = None
        self._heard_at = 0.0

    @property
    def by_keyboard(self) -> bool:
        """Whether Ctrl-C asked."""
        return self.reason == "SIGINT"

    @property
    def heard_s_ago(self) -> float:
        """How long ago somebody asked."""
        return time.monotonic() - self._heard_at if self._heard_at else 0.0

    def agree(self, reason: str) -> None:
        """Take over what another process was told."""
        if self.reason is None:
            self.reason, self._heard_at = reason, time.monotonic()

    @contextmanager
    def hurrying(self, limit_s: float) -> Iterator[None]:
        """Give the block ``limit_s`` from a signal on, then ``TimeOver``; once it is ``over``."""
        with _alarm():
            self._limit_s = limit_s
            try:
                if self._hurried:
                    _ring_in(limit_s)
                yield
            finally:
                self._limit_s = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn the first signal into a wish; a second one interrupts at once."""
        before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        signal.signal(orphan.SIGNAL, self._heard)
        try:
            with said_in_words():
                yield
        finally:
            signal.signal(orphan.SIGNAL, signal.SIG_IGN)  # all that is left is to say how it ended
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        name = _WRAPPER_GONE if number == orphan.SIGNAL else signal.Signals(number).name
        now = time.monotonic()
        if self.over:
            self._hurry(name)
            return
        if self.reason is not None:
            if name == _WRAPPER_GONE:
                return  # it takes its time to die, and may do so while the checkpoint is written
            # Ctrl-C under `mlflow run` arrives as SIGINT and, right after it, as SIGTERM.
            if now - self._heard_at > _ECHO_S or (name == self.reason and not self._echoed):
                raise _AtOnce(
                    StopRequested(
                        f"stopped at once by {in_words(name)}",
                        hint=AGAIN,
                        by_keyboard=name == "SIGINT",
                    )
                )
            return
        if not self.training:
            raise _AtOnce(
                StopRequested(
                    f"stopped by {in_words(name)} before a step was done",
                    hint="run the same command again",
                    by_keyboard=name == "SIGINT",
                )
            )
        self.reason, self._heard_at = name, now
        meaning = "stopping after this step with a last checkpoint"
        if self.done:
            meaning = "the training is done and is being sent"
        if logger.isEnabledFor(logging.WARNING):
            # Not by the logger: it may be in the middle of a line of its own.
            os.write(_STDERR, f"warning: {in_words(name)}: {meaning} (again: at once)\n".encode())

    def _hurry(self, name: str) -> None:
        """Leave what is under way its limited time, from the first signal on."""
        if name == _WRAPPER_GONE or self._hurried:
            return
        self._hurried = True
        if self._limit_s is not None:
            _ring_in(self._limit_s)
