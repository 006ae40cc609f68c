"""Whether a run is done: the same for a training and its plan."""

import pytest

from mmrun.errors import UsageError
from mmrun.workflows.done import is_done, refuse_without_effect, stays_stopped

RATE, KEEP = "training.learning_rate", "tracking.keep_last"
PATIENCE, LENGTH = "training.early_stopping_patience", "training.max_steps"


@pytest.mark.parametrize(
    ("ended", "at", "stopped_early", "changed", "done"),
    [
        pytest.param("finished", (23, 23), False, [], True, id="all steps"),
        pytest.param("finished", (23, 30), False, [LENGTH], False, id="longer now"),
        pytest.param("finished", (23, 23), False, [RATE], True, id="what has no effect"),
        pytest.param("finished", (23, None), False, [], False, id="length not known yet"),
        pytest.param("finished", (12, 23), True, [], True, id="stopped early"),
        pytest.param("finished", (12, 23), True, [KEEP], True, id="stopped early, no effect"),
        pytest.param("finished", (12, 23), True, [PATIENCE], False, id="more patience"),
        pytest.param("finished", (12, 40), True, [LENGTH, RATE], False, id="stopped early, longer"),
        pytest.param("killed", (23, 23), False, [], False, id="killed at the last step"),
        pytest.param(None, (12, 23), True, [], False, id="died after it was stopped early"),
    ],
)
def test_a_run_is_done(
    ended: str | None,
    at: tuple[int, int | None],
    stopped_early: bool,
    changed: list[str],
    done: bool,
) -> None:
    step, total = at

    assert done == is_done(
        ended=ended, step=step, total=total, stopped_early=stopped_early, changed=changed
    )


def test_only_early_stopping_keeps_a_training_stopped() -> None:
    assert stays_stopped(stopped_early=True, changed=[RATE])
    assert not stays_stopped(stopped_early=True, changed=[RATE, PATIENCE])
    assert not stays_stopped(stopped_early=False, changed=[])


def test_what_would_have_no_effect_is_refused_by_name() -> None:
    refuse_without_effect([LENGTH, "processes"], step=23, run_id="r")

    with pytest.raises(UsageError, match=rf"done at step 23.*no effect: {RATE}$"):
        refuse_without_effect([LENGTH, RATE], step=23, run_id="r")
