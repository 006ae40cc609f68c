import threading

import pytest

from mmrun.checkpoints.at_once import Stopped, at_once, beside


def test_results_come_in_the_order_of_the_items() -> None:
    assert at_once(lambda number: number * 2, range(20)) == [number * 2 for number in range(20)]


def test_after_the_first_failure_nothing_is_begun() -> None:
    begun: list[int] = []

    def fail(number: int) -> None:
        begun.append(number)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        at_once(fail, range(100))

    assert len(begun) <= 4


def test_no_item_is_begun_once_the_answer_is_no() -> None:
    begun: list[int] = []

    with pytest.raises(Stopped):
        at_once(begun.append, range(100), may_go_on=lambda: len(begun) < 10)

    assert 10 <= len(begun) < 20


def test_a_single_item_is_not_begun_either() -> None:
    begun: list[int] = []

    with pytest.raises(Stopped):
        at_once(begun.append, [1], may_go_on=lambda: False)

    assert begun == []


def test_the_end_of_the_process_does_not_wait_for_the_threads() -> None:
    assert all(at_once(lambda _: threading.current_thread().daemon, range(20)))


def test_what_is_done_beside_is_waited_for_by_who_asks() -> None:
    may_end = threading.Event()
    result = beside(lambda: (may_end.wait(10), threading.current_thread().daemon))

    may_end.set()

    assert result() == (True, True)


def test_what_fails_beside_is_told_to_who_asks() -> None:
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        beside(fail)()
