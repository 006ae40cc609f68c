"""What a training would do, in words."""

import pytest

from mmrun.workflows.next_rate import NextRate
from mmrun.workflows.plan import Plan

RUN = "1" * 32


def test_a_new_run_begins_at_step_0() -> None:
    plan = Plan(
        run_id=None,
        output_dir="out",
        attempt=1,
        checkpoint=None,
        changed={},
        next_rate=NextRate(step=1, schedule="linear", total=9, rate=0.01),
    )

    assert plan.text().splitlines() == [
        "run         a new one",
        "folder      out",
        "attempt     1",
        "checkpoint  none: from step 0",
        "rate        step 1: 0.01 (linear)",
    ]


def test_a_resume_names_what_was_passed_over_and_what_changes() -> None:
    plan = Plan(
        run_id=RUN,
        output_dir="out",
        attempt=3,
        checkpoint="checkpoint-500",
        where="remote",
        from_step=500,
        again=120,
        rejected=["checkpoint-600 (here): optimizer.pt is missing"],
        changed={"training.learning_rate": ("0.1", "0.2"), "training.seed": (None, "3")},
        data_changed=True,
        code=("a" * 40, "b" * 40),
        uncommitted=True,
        versions={"torch": ("2.12.0", "2.13.0"), "numpy": (None, "2.4.6")},
        next_rate=NextRate(step=501, schedule="cosine", total=900, rate=0.000375),
    )

    assert plan.text().splitlines() == [
        f"run         {RUN}",
        "folder      out",
        "attempt     3",
        "checkpoint  checkpoint-500, in the store",
        "rate        step 501: 0.000375 (cosine)",
        "  passed over: checkpoint-600 (here): optimizer.pt is missing",
        "again       steps 501 to 620, which were done before",
        "changes     training.learning_rate: 0.1 → 0.2",
        "changes     training.seed: None → 3",
        "changes     the data behind the same paths",
        "changes     code: revision aaaaaaaaaaaa → bbbbbbbbbbbb",
        "changes     code: there are uncommitted changes",
        "changes     version of torch: 2.12.0 → 2.13.0",
        "changes     version of numpy: none → 2.4.6",
    ]


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        pytest.param(
            NextRate(step=8, schedule="linear", total=None, rate=None),
            "step 8: unknown until the data set is built (linear)",
            id="samples are not counted yet",
        ),
        pytest.param(
            NextRate(step=8, schedule="greedy", total=9, rate=None),
            "step 8: as the metric has it, which the schedule looks back at (greedy)",
            id="no formula",
        ),
        pytest.param(
            NextRate(step=10, schedule="linear", total=9, rate=None),
            "none: all 9 steps are done",
            id="nothing to do",
        ),
    ],
)
def test_a_rate_that_is_not_known_has_a_reason(rate: NextRate, said: str) -> None:
    assert str(rate) == said
