import threading
import time

from mmrun.stopwatch import Stopwatch

A_WHILE_S = 0.1


def test_what_two_threads_do_at_once_counts_once() -> None:
    watch = Stopwatch()
    both_run = threading.Barrier(2)

    def work() -> None:
        with watch.running():
            both_run.wait()
            time.sleep(A_WHILE_S)

    begun = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert A_WHILE_S <= watch.seconds <= time.perf_counter() - begun


def test_what_lies_between_does_not_count() -> None:
    watch = Stopwatch()

    with watch.running():
        pass
    time.sleep(A_WHILE_S)
    with watch.running():
        pass

    assert watch.seconds < A_WHILE_S
