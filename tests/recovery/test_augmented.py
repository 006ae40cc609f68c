"""Dropout, augmentation and loader workers: what is random is the same after a kill."""

from pathlib import Path

import pytest

from tests.recovery.project import Project, assert_one_run_like

AUGMENTED = """\
  pipeline: features2text
  modality_kwargs:
    frame_dropping: 0.2
    noise: 0.05
"""


def augment(project: Project, *, workers: int) -> None:
    project.change("  pipeline: features2text\n", AUGMENTED)
    project.change("  seed: 7\n", f"  seed: 7\n  dataloader_num_workers: {workers}\n")


@pytest.fixture(scope="module")
def augmented_alone(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run without workers that was left alone."""
    project = Project(tmp_path_factory.mktemp("augmented") / "project")
    project.write(small_data)
    augment(project, workers=0)
    project.train_to_the_end()
    return project


def test_augmented_and_killed_is_one_run(
    project: Project, augmented_alone: Project, alone: Project
) -> None:
    augment(project, workers=2)
    project.train_until("checkpoint.renamed@12!,step@14")
    project.train_until("step@17")

    project.train_to_the_end()

    assert_one_run_like(project, augmented_alone)
    assert project.history["loss", 5] != alone.history["loss", 5]
