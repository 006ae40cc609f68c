import gc
from collections.abc import Iterator

import pytest

from mmrun.collector import collect_as_usual, collect_rarely

USUAL = gc.get_threshold()


@pytest.fixture(autouse=True)
def left_as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.set_threshold(*USUAL)


def test_the_collector_rests_until_the_start_is_over() -> None:
    collect_rarely()

    assert gc.get_threshold()[0] > 100 * USUAL[0]


def test_what_was_there_at_the_start_is_not_looked_at_again() -> None:
    collect_rarely()

    collect_as_usual()

    assert gc.get_threshold() == USUAL
    assert gc.get_freeze_count() > 1000


def test_a_process_that_somebody_else_began_is_left_alone() -> None:
    frozen = gc.get_freeze_count()

    collect_as_usual()

    assert gc.get_freeze_count() == frozen
