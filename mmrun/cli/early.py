"""What a signal does where no training listens; light, for it comes before every other import.

Python takes seconds to import what a training needs. A scheduler that stops a job in that time
shall read exit code 75, as later, and not find a death by a signal, which it takes for a failure.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

from mmrun.errors import StopRequested

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_INTERRUPTED = 130
_STDERR = 2


class Signals:
    """Turns a signal into an exit code and a line of words."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        """What ended the command."""
        self._interrupts = False
        self._code: int | None = None
        self._said = False

    @classmethod
    def listening(cls) -> "Signals":
        """Listen from now on; until the command begins, nothing is open that would be left half."""
        signals = cls()
        for number in _SIGNALS:
            signal.signal(number, signals._hear)
        return signals

    def interrupt(self) -> None:
        """Let a signal raise ``KeyboardInterrupt`` from now on, so that the command cleans up."""
        self._interrupts = True

    def decide(self, code: int) -> None:
        """Let a signal change nothing more: it ends with ``code`` once all is said."""
        self._code = code

    def said(self) -> None:
        """Let a signal end the process with the code that is decided: nothing is left to say."""
        self._said = True

    def stop(self) -> StopRequested:
        """Return what is to be said of a command that was interrupted."""
        name = self.heard.name if self.heard is not None else "SIGINT"
        by_keyboard = name == "SIGINT"
        return StopRequested(
            f"stopped by {'Ctrl-C' if by_keyboard else name}",
            hint="run the same command again",
            by_keyboard=by_keyboard,
        )

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._code is not None:
            if self._said:
                _end(self._code)
            return
        self.heard = signal.Signals(number)
        if self._interrupts:
            raise KeyboardInterrupt
        stop = self.stop()
        if os.environ.get("RANK", "0") == "0":  # of several processes the first one says it
            os.write(_STDERR, f"{stop}\n  try: {stop.hint}\n".encode())
        _end(_INTERRUPTED if stop.by_keyboard else stop.exit_code)


def _end(code: int) -> NoReturn:
    """End now: an exception would be lost in what is being imported."""
    os._exit(code)
