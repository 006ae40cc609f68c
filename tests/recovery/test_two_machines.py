"""A run that two machines continue in turn: each finds what the other one made of it."""

import shutil
from pathlib import Path

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.tracking.run_file import read_run_file
from tests.recovery.project import Project


def attempt_of(folder: Path) -> tuple[int, int]:
    manifest = manifests.read(folder)
    return manifest.step, manifest.attempt


def test_what_the_other_machine_made_takes_the_place_of_what_it_superseded(
    killed: Project,
) -> None:
    out, here = killed.folder / "out", killed.folder / "here"
    run_id = killed.run.run_id
    out.rename(here)
    killed.train_until(  # on the other machine, from an older step
        "upload.manifest@18,step@20", "--resume_from_checkpoint", f"{run_id}@6"
    )
    shutil.rmtree(out)
    here.rename(out)

    killed.train_until("step@19", "--resume_from_checkpoint", "latest")

    assert killed.attempt(3)["from_step"] == 18
    assert attempt_of(out / "train/checkpoint-last") == (18, 2)
    assert attempt_of(out / "train/superseded/a1/checkpoint-18") == (18, 1)


def test_an_address_gives_the_checkpoint_of_that_folder(killed: Project) -> None:
    run_id = killed.run.run_id
    shutil.rmtree(killed.folder / "out")
    killed.train_until("upload.manifest@12,step@14", "--resume_from_checkpoint", f"{run_id}@6")
    address = f"runs:/{run_id}/checkpoints/checkpoint-12"

    for name, pulled in (("", "first"), (".a2", "second")):
        done = killed.mmrun("checkpoints", "pull", f"{address}{name}", pulled)
        assert done.code == 0, done.said

    assert attempt_of(killed.folder / "first") == (12, 1)
    assert attempt_of(killed.folder / "second") == (12, 2)


HERE = ("--output_dir", "here")
"""Where the machine writes that a run began on."""


@pytest.fixture
def waiting(project: Project) -> Project:
    """A run that was killed with points that were not sent, and goes on on another machine."""
    project.train_until("upload.manifest@6,step@11", *HERE)
    reference = f"{project.run.run_id}@latest"
    project.train_until("upload.manifest@18,step@20", "--resume_from_checkpoint", reference)
    return project


def test_sync_sends_nothing_that_the_other_machine_did_again(
    waiting: Project, alone: Project
) -> None:
    waiting.train_to_the_end()

    done = waiting.mmrun("sync", "here")

    assert done.code == 0, done.said
    assert "another folder had sent" in done.said
    assert waiting.history == alone.history


def test_a_training_in_the_old_folder_sends_nothing_that_was_done_again(
    waiting: Project, alone: Project
) -> None:
    waiting.train_to_the_end(*HERE)

    assert waiting.history == alone.history


def test_a_run_named_alone_does_not_go_on_in_the_folder_of_another(finished: Project) -> None:
    first = finished.run.run_id
    finished.train_to_the_end("--overwrite_output_dir", "true", "--max_steps", "4")
    second = read_run_file(finished.out)

    done = finished.mmrun("train", "--resume_from_checkpoint", f"{first}@latest", "--max_steps=30")

    assert done.code == 2, done.said
    assert "two runs are meant" in done.said
    assert read_run_file(finished.out) == second
