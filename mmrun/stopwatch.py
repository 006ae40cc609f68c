"""How long work takes that several threads share."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the time in which at least one thread is at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work = 0
        self._since = 0.0
        self.seconds = 0.0
        """So far; what is under way is added when it is done."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time that the block takes; many may run at once."""
        with self._lock:
            if not self._at_work:
                self._since = time.perf_counter()
            self._at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_work -= 1
                if not self._at_work:
                    self.seconds += time.perf_counter() - self._since


digests = Stopwatch()
"""What this process has spent on the digests of checkpoints and data."""
