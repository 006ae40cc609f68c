"""The mean of several checkpoints, by the command and at the end of a training."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from mmrun.checkpoints import manifest as manifests
from mmrun.cli.main import run as mmrun
from mmrun.models.build import register_models
from tests.recovery.damage import flip, seal
from tests.recovery.project import Project

Weights = Mapping[str, torch.Tensor]
MEAN = "mean/model.safetensors"


def mean(*weights: Weights) -> Weights:
    def of(name: str) -> torch.Tensor:
        return torch.stack([one[name].double() for one in weights]).mean(dim=0).float()

    return {name: of(name) for name in weights[0]}


def assert_same(mine: Weights, theirs: Weights) -> None:
    assert mine.keys() == theirs.keys()
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


def average(*references: str) -> int:
    options = ["--output", "mean", "--output_dir", "out"]
    return mmrun(["checkpoints", "average", *references, *options])


def test_the_mean_is_that_of_the_weights(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = frozen.run.run_id

    assert average("12", f"{run_id}@23") == 0

    assert f"mean has the mean of {run_id}@12, {run_id}@23" in capsys.readouterr().out
    assert_same(load_file(MEAN), mean(frozen.weights(12), frozen.weights(23)))
    assert manifests.problem_with(Path("mean"), manifests.read(Path("mean"))) is None


def test_one_that_lies_only_in_the_store_is_fetched_for_it(frozen: Project) -> None:
    expected = mean(frozen.weights(18), frozen.weights(23))
    frozen.forget_local_checkpoints()

    assert average("18", "latest") == 0

    assert_same(load_file(MEAN), expected)
    assert not list(frozen.folder.glob(".mmrun-average-*"))


def test_a_mean_can_be_pulled(frozen: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert average("18", "23") == 0

    assert mmrun(["checkpoints", "pull", "mean", "copy"]) == 0

    assert capsys.readouterr().out.splitlines()[-1] == "mean is in copy, whole"
    assert_same(load_file("copy/model.safetensors"), load_file(MEAN))
    assert manifests.problem_with(Path("copy"), manifests.read(Path("mean"))) is None


def test_from_pretrained_and_generate_read_it(frozen: Project) -> None:
    assert average("18", "23") == 0
    register_models()

    model = AutoModelForSeq2SeqLM.from_pretrained("mean")
    done = frozen.mmrun(
        *("generate", "--config_path", "experiment.yaml", "--model_name_or_path", "mean"),
        *("--output_dir", "generated", "--set", "data.test_metadata_file=data/validation.tsv"),
    )

    weights = model.state_dict()
    assert_same({name: weights[name] for name in load_file(MEAN)}, load_file(MEAN))
    assert done.code == 0, done.said
    assert list((frozen.folder / "generated/generate").rglob("predictions.tsv"))


def of_another_model(project: Project) -> str:
    """Return a checkpoint one of whose tensors has another shape."""
    assert mmrun(["checkpoints", "pull", "23", "other", "--output_dir", "out"]) == 0
    path = project.folder / "other/model-trained.safetensors"
    weights = load_file(path)
    name = min(weights)
    save_file({**weights, name: weights[name][:-1].clone()}, path, metadata={"format": "pt"})
    seal(path.parent)
    return "other"


def test_a_mean_of_different_models_is_refused(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert average("18", of_another_model(frozen)) == 5

    said = capsys.readouterr().err
    assert "error: checkpoint-18 and other are of different models: " in said
    assert "try: average checkpoints of one run" in said
    assert not Path("mean").exists()


@pytest.mark.parametrize(
    ("references", "code", "said"),
    [
        pytest.param(("18", "19"), 5, "19", id="one that does not exist"),
        pytest.param(("18", "nowhere/checkpoint-3"), 5, "nowhere", id="no such folder"),
        pytest.param(("18",), 2, "a mean needs two checkpoints", id="only one"),
    ],
)
def test_what_cannot_be_averaged_leaves_nothing(
    frozen: Project,
    capsys: pytest.CaptureFixture[str],
    references: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    assert average(*references) == code

    told = capsys.readouterr().err
    assert said in told
    assert "  try: " in told
    assert not Path("mean").exists()
    assert not list(frozen.folder.glob(".mmrun-average-*"))


def test_a_folder_with_something_in_it_is_left_alone(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mean").mkdir()
    Path("mean/mine").touch()

    assert average("18", "23") == 2

    assert "mean exists already" in capsys.readouterr().err
    assert [path.name for path in Path("mean").iterdir()] == ["mine"]


def test_the_last_three_are_averaged_at_the_end(project: Project) -> None:
    said = project.train_to_the_end("--average_last", "3")

    expected = mean(*(project.weights(step) for step in (12, 18, 23)))
    assert_same(load_file(project.out / "average/model.safetensors"), expected)
    assert_same(load_file(project.artifact("average/model.safetensors")), expected)
    assert f"the mean of {project.run.run_id}@12, " in said


def test_a_kill_does_not_change_the_mean(killed: Project, alone: Project) -> None:
    killed.train_to_the_end("--average_last", "3")

    expected = mean(*(alone.weights(step) for step in (12, 18, 23)))
    assert_same(load_file(killed.out / "average/model.safetensors"), expected)
    assert_same(load_file(killed.artifact("average/model.safetensors")), expected)


def test_a_broken_checkpoint_is_passed_over_in_the_mean(killed: Project) -> None:
    flip(killed.out / "train/checkpoint-12/model.safetensors")

    said = killed.train_to_the_end("--average_last", "3")

    expected = mean(*(killed.weights(step) for step in (6, 18, 23)))
    assert_same(load_file(killed.out / "average/model.safetensors"), expected)
    assert "average_last: passed over: checkpoint" in said


def test_a_mean_that_fails_ends_the_attempt_and_the_next_one_makes_it(project: Project) -> None:
    (project.out / "average").parent.mkdir()
    (project.out / "average").symlink_to("nowhere")  # no folder takes its place

    done = project.train("--average_last", "2")

    assert done.code != 0
    assert project.run.status == "FAILED"
    assert project.run.tags["mmrun.status"] == "failed"
    (project.out / "average").unlink()
    project.train_to_the_end("--average_last", "2")
    expected = mean(*(project.weights(step) for step in (18, 23)))
    assert_same(load_file(project.out / "average/model.safetensors"), expected)
    assert project.run.status == "FINISHED"
