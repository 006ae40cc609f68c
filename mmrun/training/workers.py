"""The processes that load data leave signals to the training; only it may end them.

Slurm, `timeout`, systemd and Ctrl-C signal every process of a training. A worker that died of that
would take the training with it, before the last checkpoint.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

from mmrun.training.stopping import SIGNALS

Begin = Callable[[int], None]
"""What a worker does first, given its number."""


def keep_workers(loader: Any) -> None:
    """Let the workers of ``loader`` outlive signals; those that it has already stay as they are."""
    # What accelerate makes of a loader iterates over one that it has inside.
    inner = getattr(loader, "base_dataloader", loader)
    inner.worker_init_fn = begin_worker(inner.worker_init_fn)


def begin_worker(begin: Begin | None = None) -> Begin:
    """Return what a worker is to do first: leave signals to its parent, then ``begin``."""
    return partial(_begin, begin)


def _begin(begin: Begin | None, number: int) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None and hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # so that it can be waited for
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if begin is not None:
        begin(number)


def _end_with(parent: BaseProcess) -> None:
    """End when the parent says so, as torch has it do with a worker that hangs."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid and parent.is_alive():
        pass
    os._exit(0)
