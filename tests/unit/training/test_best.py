"""The best so far, found in what was logged."""

from typing import Any

import pytest

from mmrun.training.best import Best, best_so_far

HISTORY: list[dict[str, Any]] = [
    {"loss": 9.0, "step": 1},
    {"eval_loss": 3.0, "eval_chrf": 10.0, "step": 2},
    {"eval_loss": 2.0, "eval_chrf": 30.0, "step": 4},
    {"eval_loss": 2.0, "eval_chrf": 20.0, "step": 6},
    {"eval_loss": 2.5, "step": 8},
]


@pytest.mark.parametrize(
    ("metric", "greater", "best"),
    [
        pytest.param("eval_loss", False, Best(2.0, 4, 2), id="a lower one, the first of two"),
        pytest.param("eval_loss", True, Best(3.0, 2, 3), id="the other direction"),
        pytest.param("eval_chrf", True, Best(30.0, 4, 1), id="a higher one"),
        pytest.param("eval_ter", False, None, id="never evaluated"),
    ],
)
def test_the_best_so_far(metric: str, greater: bool, best: Best | None) -> None:
    assert best_so_far(HISTORY, metric=metric, greater_is_better=greater) == best
