import math

import pytest

from mmrun.checkpoints.manifest import Selection
from mmrun.checkpoints.policy import Saved, best, live, newest, to_drop

LOSS = Selection(metric="eval_loss", greater_is_better=False)
BLEU = Selection(metric="bleu", greater_is_better=True)


def saved(
    step: int, *, attempt: int = 1, loss: float | None = None, selection: Selection | None = LOSS
) -> Saved:
    metrics = {} if loss is None else {selection.metric if selection else "eval_loss": loss}
    return Saved(
        name=f"{step}.a{attempt}", step=step, attempt=attempt, metrics=metrics, selection=selection
    )


@pytest.mark.parametrize(
    ("lineage", "names"),
    [
        pytest.param([], {"100.a1", "200.a1", "200.a2"}, id="lineage unknown"),
        pytest.param([(1, 0), (2, 100)], {"100.a1", "200.a2"}, id="second started at 100"),
        pytest.param([(1, 0), (2, 0)], {"200.a2"}, id="second started over"),
        pytest.param([(1, 0), (2, 100), (3, 100)], {"100.a1"}, id="third too"),
        pytest.param([(1, 0), (2, 200)], {"100.a1", "200.a1", "200.a2"}, id="started at its step"),
    ],
)
def test_a_later_attempt_supersedes_what_lies_beyond_its_start(
    lineage: list[tuple[int, int]], names: set[str]
) -> None:
    every = [saved(100), saved(200), saved(200, attempt=2)]

    assert {one.name for one in live(every, lineage)} == names


def test_the_newest_of_one_step_is_that_of_the_later_attempt() -> None:
    assert newest([saved(100), saved(200, attempt=2), saved(200)]) == saved(200, attempt=2)


def test_nothing_saved_has_no_newest_and_no_best() -> None:
    assert newest([]) is None
    assert best([]) is None


@pytest.mark.parametrize(
    ("every", "name"),
    [
        pytest.param(
            [saved(1, loss=2.0), saved(2, loss=1.0), saved(3, loss=3.0)], "2.a1", id="low"
        ),
        pytest.param([saved(1, loss=1.0), saved(2, loss=1.0)], "1.a1", id="tie"),
        pytest.param([saved(1, loss=math.nan), saved(2, loss=5.0)], "2.a1", id="not a number"),
        pytest.param([saved(1), saved(2, loss=5.0), saved(3)], "2.a1", id="not evaluated"),
        pytest.param(
            [saved(1, loss=0.2, selection=BLEU), saved(2, loss=0.4, selection=BLEU)],
            "2.a1",
            id="greater is better",
        ),
        pytest.param(
            [saved(1, loss=0.2), saved(2, loss=0.4, selection=BLEU)],
            "2.a1",
            id="the newest selection counts",
        ),
    ],
)
def test_the_best_is_chosen_by_the_metric_of_its_own_step(every: list[Saved], name: str) -> None:
    found = best(every)

    assert found is not None
    assert found.name == name


def test_without_a_selection_there_is_no_best() -> None:
    assert best([saved(1, loss=1.0, selection=None)]) is None


@pytest.mark.parametrize(
    ("keep_last", "keep_best", "keep", "dropped"),
    [
        pytest.param(1, 0, set(), ["1.a1", "2.a1", "3.a1"], id="only the newest"),
        pytest.param(1, 1, set(), ["2.a1", "3.a1"], id="the newest and the best"),
        pytest.param(0, 0, set(), ["1.a1", "2.a1", "3.a1"], id="zero still keeps the newest"),
        pytest.param(2, 1, {"2.a1"}, [], id="and the pinned"),
        pytest.param(9, 9, set(), [], id="more than there are"),
    ],
)
def test_retention(keep_last: int, keep_best: int, keep: set[str], dropped: list[str]) -> None:
    every = [saved(1, loss=1.0), saved(2, loss=3.0), saved(3, loss=2.0), saved(4, loss=4.0)]

    gone = to_drop(every, keep_last=keep_last, keep_best=keep_best, keep=keep)

    assert [one.name for one in gone] == dropped


def test_superseded_ones_go_first_and_are_never_the_best() -> None:
    every = [saved(1), saved(2, loss=0.1), saved(3), saved(2, attempt=2, loss=0.5)]

    gone = to_drop(every, keep_last=1, keep_best=1, lineage=[(1, 0), (2, 1)])

    assert [one.name for one in gone] == ["2.a1", "3.a1", "1.a1"]


def test_a_superseded_one_is_kept_while_there_is_nothing_else() -> None:
    assert to_drop([saved(5)], keep_last=1, keep_best=0, lineage=[(1, 0), (2, 0)]) == []
