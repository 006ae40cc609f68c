"""Several requests under way at a time, by threads that no end of the process waits for."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MayGoOn = Callable[[], bool]

AT_ONCE = 4
"""Requests under way; more than this only fight for the disk or the line."""


class Stopped(Exception):  # noqa: N818 (a wish, not a fault)
    """Who wanted the work does no longer; what is done of it stays as it is."""


def always() -> bool:
    """Go on in any case."""
    return True


def check(may_go_on: MayGoOn) -> None:
    """Raise ``Stopped`` where ``may_go_on`` says no."""
    if not may_go_on():
        raise Stopped


def at_once(
    task: Callable[[Item], Result], items: Iterable[Item], *, may_go_on: MayGoOn = always
) -> list[Result]:
    """Return the results of ``task``, several of them under way at a time.

    ``may_go_on`` is asked before each. After the first that fails, whose error is raised, none is
    begun. The threads are plain ones, since the interpreter waits at its end for those of
    ``concurrent.futures``, and for all that is queued for them.
    """
    every = list(items)
    todo = deque(enumerate(every))
    results: dict[int, Result] = {}
    failed: list[BaseException] = []

    def work() -> None:
        while (next_one := _taken(todo)) is not None:
            place, item = next_one
            try:
                check(may_go_on)
                results[place] = task(item)
            except BaseException as error:  # noqa: BLE001 (raised again by the caller)
                todo.clear()
                failed.append(error)

    _run(work, number=min(AT_ONCE, len(every)), at_last=todo.clear)
    if failed:
        raise failed[0]
    return [results[place] for place in range(len(every))]


def beside(task: Callable[[], Result]) -> Callable[[], Result]:
    """Begin ``task`` in another thread; what is returned waits for its result, or its error.

    Who is stopped before asks for nothing, and the process may end.
    """
    results: list[Result] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            results.append(task())
        except BaseException as error:  # noqa: BLE001 (raised again by who asks)
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def result() -> Result:
        thread.join()
        if failed:
            raise failed[0]
        return results[0]

    return result


def _taken(todo: deque[tuple[int, Item]]) -> tuple[int, Item] | None:
    try:
        return todo.popleft()
    except IndexError:
        return None


def _run(work: Callable[[], None], *, number: int, at_last: Callable[[], None]) -> None:
    """Let ``work`` be done by so many threads; ``at_last`` also where the waiting is cut off."""
    if number < 2:  # noqa: PLR2004 (nothing to do at the same time)
        work()
        return
    started = [threading.Thread(target=work, daemon=True) for _ in range(number)]
    try:
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    finally:
        at_last()
