"""Threads that stand back behind the training."""

import os
import sys
import threading
from contextlib import suppress

_NICENESS = 10
"""About a tenth of a core that the training wants, too, and all of one that it leaves idle."""


def stand_back() -> None:
    """Give this thread, and those that it starts, less of the processor than the training has.

    Only Linux has a priority for each thread; elsewhere it would be that of the whole process.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            now = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, max(now, _NICENESS))
