"""A process that loads data outlives signals, except its parent's; with real processes."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
from torch.utils.data import DataLoader, Dataset

from mmrun.training.stopping import SIGNALS
from mmrun.training.workers import begin_worker, keep_workers

FOREIGN = ["sh", "-c", 'kill -s "$0" "$1"']


class Pids(Dataset[int]):
    """Each of its samples is the process that loads it."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> int:
        return os.getpid()


def samples(method: str) -> Iterator[int]:
    loader = DataLoader(
        Pids(), batch_size=None, num_workers=1, multiprocessing_context=method, prefetch_factor=1
    )
    keep_workers(loader)
    return iter(loader)


def send(number: signal.Signals, worker: int) -> None:
    """Send a signal as another process, as a scheduler does."""
    psutil.Popen([*FOREIGN, number.name.removeprefix("SIG"), str(worker)]).wait()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_outlives_signals(method: str) -> None:
    loading = samples(method)
    worker = next(loading)

    for number in SIGNALS:
        send(number, worker)
        time.sleep(0.1)

    assert [next(loading) for _ in range(10)] == [worker] * 10


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_its_parent_can_end_it(method: str) -> None:
    loading = samples(method)
    worker = psutil.Process(next(loading))

    worker.terminate()

    worker.wait(timeout=60)


def test_what_a_worker_was_to_do_first_is_done() -> None:
    begun: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    try:
        begin_worker(begun.append)(3)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert begun == [3]
