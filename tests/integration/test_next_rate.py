"""The rate that a dry run says is the one that the next step is then taken with."""

import json
import shutil
from typing import Any

import pytest

from tests.integration.runs import TWO_PROCESSES, Runs

LINEAR = ("--lr_scheduler_type", "linear", "--logging_steps", "1")
EPOCHS = "-1"
"""Steps that leave the length to `num_train_epochs`."""


def planned(here: Runs, *options: str, steps: str) -> dict[str, Any]:
    said = here.train("out", *LINEAR, *options, "--dry-run", "--format", "json", steps=steps)
    assert said.code == 0, said.text
    plan, _ = json.JSONDecoder().raw_decode(said.text)  # warnings come after it
    rate: dict[str, Any] = plan["next_rate"]
    return rate


def taken(here: Runs, run_id: str) -> list[tuple[int, float]]:
    """Return step and rate of every step of the run."""
    points = here.store.history(run_id, "learning_rate")
    return [(point.step, point.value) for point in points]


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        pytest.param("9", (), id="longer"),
        pytest.param("9", ("--warmup_steps", "8"), id="warm-up beyond the step"),
        pytest.param("9", ("--warmup_ratio", "0.5"), id="a name that transformers dropped"),
        pytest.param("9", ("--learning_rate", "5e-5"), id="the default of transformers"),
        pytest.param(EPOCHS, ("--num_train_epochs", "2"), id="epochs"),
        pytest.param(
            EPOCHS,
            ("--num_train_epochs", "2", "--per_device_train_batch_size", "3"),
            id="epochs, another batch size",
        ),
        pytest.param(
            EPOCHS,
            ("--num_train_epochs", "1.5", "--gradient_accumulation_steps", "2"),
            id="epochs, accumulation",
        ),
        pytest.param(
            EPOCHS,
            ("--num_train_epochs", "2", "--dataloader_drop_last", "true"),
            id="epochs, incomplete batches dropped",
        ),
        pytest.param(
            EPOCHS,
            ("--num_train_epochs", "2", "--set", "data.max_train_samples=21"),
            id="epochs, fewer samples",
        ),
    ],
)
def test_the_next_step_has_the_rate_that_was_planned(
    here: Runs, steps: str, options: tuple[str, ...]
) -> None:
    run_id = here.trained("out", *LINEAR, steps="4")

    plan = planned(here, *options, steps=steps)
    said = here.train("out", *LINEAR, *options, steps=steps)

    assert said.code == 0, said.text
    after = [(step, rate) for step, rate in taken(here, run_id) if step > 4]
    assert after[0] == (plan["step"], plan["rate"])
    assert after[-1][0] == plan["total"]


def test_the_position_is_read_from_the_store_where_it_lies_only_there(here: Runs) -> None:
    here.trained("out", *LINEAR, steps="4")
    options = ("--num_train_epochs", "2", "--per_device_train_batch_size", "3")
    with_files = planned(here, *options, steps=EPOCHS)
    shutil.rmtree(here.folder / "out" / "train")

    assert planned(here, *options, steps=EPOCHS) == with_files


def test_rows_that_are_left_out_are_counted_once_the_data_set_is_built(here: Runs) -> None:
    options = ("--set", "data.max_frames=3", "--num_train_epochs", "2")
    before = planned(here, *options, steps=EPOCHS)

    here.trained("out", *LINEAR, *options, steps="1")
    after = planned(here, *options, steps=EPOCHS)

    assert (before["total"], before["rate"]) == (None, None)
    assert after["total"] == 2 * 5  # 18 of 23 rows have at most three frames


@pytest.mark.parametrize(("steps", "total"), [(EPOCHS, 2 * 3), ("9", 9)], ids=["epochs", "steps"])
def test_several_processes_share_the_steps_of_an_epoch(
    here: Runs, monkeypatch: pytest.MonkeyPatch, steps: str, total: int
) -> None:
    for name, value in TWO_PROCESSES.items():
        monkeypatch.setenv(name, value)

    assert planned(here, "--num_train_epochs", "2", steps=steps)["total"] == total


def test_options_that_the_schedule_lacks_are_refused(here: Runs) -> None:
    said = here.train("out", *LINEAR, "--lr_scheduler_kwargs", '{"num_cycles": 2}', "--dry-run")

    assert said.code == 3
    assert "error: training.lr_scheduler_kwargs: linear has no option 'num_cycles'" in said.text


def test_what_has_no_effect_is_said_in_a_dry_run_too(here: Runs) -> None:
    said = here.train("out", "--warmup_steps", "5", "--dry-run")

    assert said.code == 0
    assert "training.warmup_steps (the schedule constant has no warm-up)" in said.text
