"""Steps that are done again tell, for free, whether a training is deterministic."""

import numpy as np
import pytest

from tests.recovery.project import STEPS, Project, assert_one_run_like

FROM_STEP_12 = ("--resume_from_checkpoint", "12")
WARNING = "both are kept, and the tag mmrun.replay says so"


def spoil(project: Project) -> None:
    """Change every signal, which is something that no setting explains."""
    for file in (project.folder / "data/train").glob("*.npy"):
        np.save(file, np.load(file) * 0.5)


def test_what_comes_out_otherwise_is_counted_and_said_once(killed: Project) -> None:
    spoil(killed)

    said = killed.train_to_the_end(*FROM_STEP_12, "--accept-data-change")

    assert said.count(WARNING) == 1
    (line,) = [line for line in said.splitlines() if WARNING in line]
    assert "step 15: " in line
    assert "no setting was changed that explains it; changed since: the data" in line
    record = killed.attempt(2)
    # At step 15 loss and grad_norm, at step 16 the evaluated loss; the rate is the same.
    assert (record["diverged"], record["diverged_at"]) == (3, 15)
    assert record["replay"] == killed.run.tags["mmrun.replay"] == "diverged@15"


def test_a_kill_right_after_it_loses_nothing_of_it(killed: Project) -> None:
    spoil(killed)
    killed.train_until("step@17", *FROM_STEP_12, "--accept-data-change")

    said = killed.train_to_the_end()

    assert WARNING not in said
    assert (killed.attempt(2)["diverged"], killed.attempt(2)["diverged_at"]) == (3, 15)
    assert (killed.attempt(3)["diverged"], killed.attempt(3)["diverged_at"]) == (0, None)
    assert killed.run.tags["mmrun.replay"] == "diverged@15"


def test_a_setting_that_changes_nothing_explains_nothing(killed: Project) -> None:
    spoil(killed)

    killed.train_to_the_end(*FROM_STEP_12, "--accept-data-change", "--save_steps", "7")

    assert killed.run.tags["mmrun.replay"] == "diverged@15"


def test_a_setting_that_was_changed_by_a_killed_attempt_still_explains(killed: Project) -> None:
    options = (*FROM_STEP_12, "--learning_rate", "0.0005")
    killed.train_until("step@14", *options)

    said = killed.train_to_the_end(*options)

    assert said.count(WARNING) == 1
    assert "changed since: training.learning_rate" in said
    assert killed.attempt(3)["overrides"] == {}
    assert killed.run.tags["mmrun.replay"] == "overridden@15"


@pytest.mark.parametrize("option", [("--save_steps", "7"), ("--set", "tracking.keep_last=1")])
def test_a_deterministic_replay_has_no_tag(
    killed: Project, alone: Project, option: tuple[str, str]
) -> None:
    killed.train_to_the_end(*FROM_STEP_12, *option)

    assert_one_run_like(killed, alone, step=STEPS)
    assert killed.attempt(2)["diverged"] == 0
