"""What a training would do, in words."""

from mmrun.workflows.plan import Plan

RUN = "1" * 32


def test_a_new_run_begins_at_step_0() -> None:
    plan = Plan(run_id=None, output_dir="out", attempt=1, checkpoint=None, changed={})

    assert plan.text().splitlines() == [
        "run         a new one",
        "folder      out",
        "attempt     1",
        "checkpoint  none: from step 0",
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
    )

    assert plan.text().splitlines() == [
        f"run         {RUN}",
        "folder      out",
        "attempt     3",
        "checkpoint  checkpoint-500, in the store",
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
