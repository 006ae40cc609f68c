"""Not to train on when the wrapper that started us is gone.

`mlflow run` and `dvc repro` die alone when they are stopped, and so does `torchrun` when it is
killed; a trainer would run on as an orphan. Linux tells a process that its parent has died; a
wrapper further up (a shell stands between) is watched, and so is the parent where the kernel does
not tell.
"""

import ctypes
import os
import platform
import signal
import threading
import time
from collections.abc import Sequence

import psutil

from mmrun.tracking.process import ProcessId, process_of

SIGNAL = signal.SIGUSR2
"""One of its own: what stops a wrapper often stops us, too, and that must not count as twice."""

_PR_SET_PDEATHSIG = 1
_EVERY_S = 1.0
_WRAPPERS = ("mlflow", "dvc", "torchrun", "torch.distributed.run")


def stop_with_wrapper() -> None:
    """Ask for ``SIGNAL`` when the program that started this process, a wrapper, dies."""
    watched = _wrapper()
    if watched is None:
        return  # `nohup mmrun train &` shall outlive its shell, whatever the environment says
    parent = os.getppid()
    if platform.system() == "Linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, SIGNAL)
        if os.getppid() != parent:  # it died before the request was in place
            os.kill(os.getpid(), SIGNAL)
    threading.Thread(target=_watch, args=(watched,), name="mmrun-orphan", daemon=True).start()


def has_wrapper() -> bool:
    """Whether an `mlflow run` or `dvc repro` that started this process still lives."""
    return _wrapper() is not None


def mlflow_process() -> ProcessId | None:
    """Return the `mlflow run` that started this process, if it still lives."""
    launched_by = _wrapper(("mlflow",))
    return None if launched_by is None else process_of(launched_by.pid)


def _wrapper(names: Sequence[str] = _WRAPPERS) -> psutil.Process | None:
    try:
        ancestors = psutil.Process().parents()
        return next((process for process in ancestors if _is_called(process, names)), None)
    except psutil.Error:
        return None


def _is_called(process: psutil.Process, names: Sequence[str]) -> bool:
    try:
        words = process.cmdline()[:3]
    except psutil.Error:
        return False
    return any(os.path.basename(word) in names for word in words)  # noqa: PTH119 (words, not paths)


def _watch(wrapper: psutil.Process) -> None:
    while _lives(wrapper):
        time.sleep(_EVERY_S)
    os.kill(os.getpid(), SIGNAL)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
