"""Killed and resumed through the command line: one run, equal to one that was left alone."""

import json
import shutil
import signal

import pytest

from tests.recovery.project import STEPS, Project, assert_one_run_like


@pytest.mark.parametrize(
    ("reference", "step"),
    [
        pytest.param(None, 18, id="no option"),
        pytest.param("latest", 18, id="latest"),
        pytest.param("best", 12, id="best"),
        pytest.param("12", 12, id="a step"),
        pytest.param("{run}@18", 18, id="a step of a run"),
        pytest.param("{run}", 18, id="a run"),
        pytest.param("runs:/{run}/checkpoints/checkpoint-12", 12, id="a URI"),
    ],
)
def test_a_killed_run_goes_on_from_what_the_store_has(
    killed: Project, alone: Project, reference: str | None, step: int
) -> None:
    killed.forget_local_checkpoints()
    options = (
        ["--resume_from_checkpoint", reference.format(run=killed.run.run_id)] if reference else []
    )

    killed.train_to_the_end(*options)

    assert_one_run_like(killed, alone)
    assert killed.attempt(1)["ended"] == "killed"
    assert killed.attempt(2)["from_step"] == step


def test_each_attempt_says_how_long_its_first_step_took(killed: Project) -> None:
    killed.train_to_the_end()

    took, verified = (
        {step: value for key, step, value in killed.points if key == f"mmrun/{name}"}
        for name in ("first_step_s", "verify_s")
    )
    assert took.keys() == verified.keys() == {1, 19}
    assert all(0 < verified[step] < took[step] for step in took)


def test_a_killed_run_goes_on_from_a_folder(killed: Project, alone: Project) -> None:
    killed.train_to_the_end("--resume_from_checkpoint", "out/train/checkpoint-6")

    assert_one_run_like(killed, alone)
    assert killed.attempt(2)["from_step"] == 6
    assert (killed.out / "train/superseded/a1/checkpoint-18").is_dir()


def test_a_run_goes_on_in_an_empty_folder_without_its_experiment_file(
    killed: Project, alone: Project
) -> None:
    run_id = killed.run.run_id
    shutil.rmtree(killed.out)
    (killed.folder / "experiment.yaml").unlink()

    done = killed.mmrun(
        "train", "--resume_from_checkpoint", f"{run_id}@latest", "--output_dir", "elsewhere"
    )

    assert done.code == 0, done.said
    killed.out = killed.folder / "elsewhere"
    assert killed.run.run_id == run_id
    assert_one_run_like(killed, alone)
    assert best_of(killed) == best_of(alone)


def best_of(project: Project) -> object:
    """Return what the run and its last checkpoint hold for the best so far."""
    state = json.loads((project.out / f"train/checkpoint-{STEPS}/trainer_state.json").read_text())
    tag = project.run.tags["mmrun.checkpoint.best"]
    return tag, state["best_metric"], state["best_global_step"]


def test_killed_at_every_moment_of_a_save_in_one_run(project: Project, alone: Project) -> None:
    moments = {  # and the step that the next attempt starts from
        "checkpoint.saved@6": 0,
        "checkpoint.manifest@6": 0,
        "checkpoint.renamed@12!,step@13": 12,
        "spool.linked@12!,step@13": 12,
        "upload.files@18!,step@19": 18,
        "upload.manifest@23": 23,
    }
    for moment in moments:
        project.train_until(moment)
        assert project.run.status == "RUNNING"

    project.train_to_the_end()

    assert_one_run_like(project, alone)
    attempts = [project.attempt(number) for number in range(1, len(moments) + 2)]
    assert [attempt["from_step"] for attempt in attempts] == [0, *moments.values()]
    assert [attempt["ended"] for attempt in attempts] == ["killed"] * len(moments) + ["finished"]


def test_killed_again_before_and_after_what_was_reached(killed: Project, alone: Project) -> None:
    killed.train_until("step@19")
    killed.train_until("step@22")

    killed.train_to_the_end()

    assert_one_run_like(killed, alone)
    # Of each what is known: its newest checkpoint, nothing, and its last log line.
    assert [killed.run.tags[f"mmrun.attempt.{number}"] for number in (1, 2, 3)] == [
        "steps 0 to 18, killed",
        "from step 18, killed",
        "steps 18 to 20, killed",
    ]


def test_killed_from_outside(killed: Project, alone: Project) -> None:
    done = killed.train_and_send(signal.SIGKILL, at_line="step 20: loss")

    assert done.code == -signal.SIGKILL
    killed.train_to_the_end()
    assert_one_run_like(killed, alone)


def test_stopped_on_request_twice(project: Project, alone: Project) -> None:
    terminated = project.train_and_send(signal.SIGTERM, at_line="step 4:")

    assert terminated.code == 75, terminated.said
    assert "stopped by SIGTERM at step" in terminated.said
    assert project.run.status == "KILLED"
    assert project.run.tags["mmrun.status"] == "stopped by SIGTERM"
    stopped_at = project.attempt(1)["to_step"]
    assert 4 <= stopped_at < STEPS

    interrupted = project.train_and_send(signal.SIGINT, at_line="step ")

    assert interrupted.code == 130, interrupted.said
    assert project.run.status == "KILLED"
    assert project.attempt(2)["from_step"] >= stopped_at

    project.train_to_the_end()
    assert_one_run_like(project, alone)
