"""Newest checkpoints on which the stock Trainer stops, or trains on without a word."""

import shutil
from pathlib import Path

from tests.recovery.damage import cut, flip
from tests.recovery.project import Project, assert_one_run_like

NEWEST, BEFORE, FIRST = 18, 12, 6


def here(project: Project, step: int) -> Path:
    return project.out / f"train/checkpoint-{step}"


def stored(project: Project, step: int) -> Path:
    return project.artifact(f"checkpoints/checkpoint-{step}")


def assert_goes_on(project: Project, alone: Project, *, step: int) -> str:
    said = project.train_to_the_end()

    assert project.attempt(2)["from_step"] == step
    assert_one_run_like(project, alone)
    return said


def test_one_with_nothing_in_it_or_half_a_file_is_passed_over(
    killed: Project, alone: Project
) -> None:
    shutil.rmtree(here(killed, NEWEST))
    here(killed, NEWEST).mkdir()
    cut(stored(killed, NEWEST) / "optimizer.pt")
    (here(killed, BEFORE) / "trainer_state.json").unlink()
    (stored(killed, BEFORE) / "trainer_state.json").unlink()

    said = assert_goes_on(killed, alone, step=FIRST)

    assert "optimizer.pt is truncated" in said
    assert "trainer_state.json is missing" in said


def test_one_without_optimizer_or_schedule_is_passed_over(killed: Project, alone: Project) -> None:
    (here(killed, NEWEST) / "optimizer.pt").unlink()
    (stored(killed, NEWEST) / "scheduler.pt").unlink()

    said = assert_goes_on(killed, alone, step=BEFORE)

    assert "optimizer.pt is missing" in said
    assert "scheduler.pt is missing" in said


def test_one_with_a_flipped_bit_is_passed_over(killed: Project, alone: Project) -> None:
    flip(here(killed, NEWEST) / "model.safetensors")
    flip(stored(killed, NEWEST) / "model.safetensors")

    said = assert_goes_on(killed, alone, step=BEFORE)

    assert "model.safetensors is damaged: its content has another SHA-256" in said
