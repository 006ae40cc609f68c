"""A wish to stop, from a signal to the end of the step."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopWish:
    """Set by a signal; read by the training loop at the end of each step."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Name of the signal, or what else asked to stop; None while training goes on."""

    @property
    def by_keyboard(self) -> bool:
        """Whether Ctrl-C asked."""
        return self.reason == "SIGINT"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn the first signal into a wish; a second one interrupts at once."""
        before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.reason is not None:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name
        logger.warning(
            "%s: stopping after this step with a last checkpoint (once more: at once)", self.reason
        )
