"""Not to train on when the wrapper that started us is gone.

`mlflow run` and `dvc repro` die alone when they are stopped, and a trainer would run on as an
orphan. Linux tells a process that its parent has died; elsewhere the parent is watched.
"""

import ctypes
import os
import platform
import signal
import threading
import time

_PR_SET_PDEATHSIG = 1
_EVERY_S = 2.0


def stop_with_parent() -> None:
    """Ask for SIGTERM when the parent of this process dies."""
    parent = os.getppid()
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the request was in place
            os.kill(os.getpid(), signal.SIGTERM)
        return
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
