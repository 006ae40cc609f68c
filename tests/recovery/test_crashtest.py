"""`make crashtest`, in small: kills at random leave no difference, and a difference is found."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.crashtest.campaign import Campaign, last_step
from tests.crashtest.differences import differences
from tests.recovery.project import Project

KILLS = 4


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("crashtest"), seed=4, say=print)


@pytest.fixture
def tampered(campaign: Campaign, tmp_path: Path) -> Iterator[Project]:
    """The training that was left alone, to be changed; it is as it was after the test."""
    project = campaign.alone
    project.keep(tmp_path / "kept")
    yield project
    project.restore(tmp_path / "kept")


def test_kills_at_random_leave_no_difference(campaign: Campaign) -> None:
    assert campaign.go_on(KILLS) == []
    assert campaign.kills >= KILLS


def _one_bit_of_the_weights(project: Project) -> None:
    file = next((project.out / "train/checkpoint-last").glob("*.safetensors"))
    tensors = load_file(file)
    tensor = tensors[min(tensors)]
    tensor.view(-1).view(torch.uint8)[0] ^= 1
    save_file(tensors, file)


def _a_moment_of_the_optimizer(project: Project) -> None:
    file = project.out / "train/checkpoint-last/optimizer.pt"
    saved = torch.load(file, weights_only=True)
    saved["state"][0]["exp_avg"] += 1e-9
    torch.save(saved, file)


def _a_prediction(project: Project) -> None:
    file = next((project.out / "generate").glob("*/predictions.tsv"))
    file.write_text(file.read_text(encoding="utf-8") + "more\n", encoding="utf-8")


def _in_the_database(command: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
            database.execute(command)
            database.commit()

    return change


CHANGES: Mapping[str, Callable[[Project], None]] = {
    "weights: 1 of": _one_bit_of_the_weights,
    "optimizer: 1 of": _a_moment_of_the_optimizer,
    "predictions differ": _a_prediction,
    "eval_loss at step 4": _in_the_database(
        "UPDATE metrics SET value = value + 1e-12 WHERE key = 'eval_loss' AND step = 4"
    ),
    "loss at step 10": _in_the_database(
        "DELETE FROM metrics WHERE key = 'loss' AND step = 10"  # a gap
    ),
    "status RUNNING": _in_the_database("UPDATE runs SET status = 'RUNNING'"),
}
"""What is done to a training, by what is to be said of it."""


def test_each_difference_is_found(tampered: Project, tmp_path: Path) -> None:
    for change in CHANGES.values():
        change(tampered)

    found = differences(tampered, Project(tmp_path / "kept"), step=last_step(tampered))

    wanted = (*CHANGES, "checkpoints verify")  # which reads the changed weights, too
    missed = [said for said in wanted if not any(said in line for line in found)]
    assert missed == [], found


def test_a_double_is_found(tampered: Project, tmp_path: Path) -> None:
    _in_the_database(
        "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan "
        "FROM metrics WHERE key = 'loss' AND step = 10"
    )(tampered)

    found = differences(tampered, Project(tmp_path / "kept"), step=last_step(tampered))

    assert any("logged more than once: [('loss', 10)]" in line for line in found), found


def test_nothing_is_found_where_nothing_differs(tampered: Project, tmp_path: Path) -> None:
    assert differences(tampered, Project(tmp_path / "kept"), step=last_step(tampered)) == []
