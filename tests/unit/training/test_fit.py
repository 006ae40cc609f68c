"""Weights of a checkpoint in a model that was made apart from it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmrun.errors import CheckpointError
from mmrun.training.fit import load_weights


def model(*, width: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, width), nn.Linear(width, 2))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    save_file(model().state_dict(), folder / "model.safetensors")
    return folder


def test_weights_that_fit_are_loaded(tmp_path: Path) -> None:
    saved, fresh = model(), model()
    save_file(saved.state_dict(), tmp_path / "model.safetensors")

    load_weights(fresh, tmp_path)

    theirs = saved.state_dict()
    assert all(torch.equal(mine, theirs[name]) for name, mine in fresh.state_dict().items())


def test_weights_in_several_files_are_loaded(tmp_path: Path) -> None:
    saved, fresh = model(), model()
    files = {name: f"part-{index}.safetensors" for index, name in enumerate(saved.state_dict())}
    for name, file in files.items():
        save_file({name: saved.state_dict()[name]}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}), encoding="utf-8")

    load_weights(fresh, tmp_path)

    theirs = saved.state_dict()
    assert all(torch.equal(mine, theirs[name]) for name, mine in fresh.state_dict().items())


def test_another_shape_is_refused_by_name(checkpoint: Path) -> None:
    wider = model(width=4)
    before = {name: tensor.clone() for name, tensor in wider.state_dict().items()}

    with pytest.raises(CheckpointError, match="does not fit checkpoint-5") as caught:
        load_weights(wider, checkpoint)

    problem = "0.bias is 3 in the checkpoint and 4 in the model"
    assert problem in str(caught.value)
    assert caught.value.more == (
        "0.weight is 3x2 in the checkpoint and 4x2 in the model",
        "1.weight is 2x3 in the checkpoint and 2x4 in the model",
    )
    assert all(torch.equal(now, before[name]) for name, now in wider.state_dict().items())


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        pytest.param(
            nn.Sequential(nn.Linear(2, 3)), "1.bias is 2 in the checkpoint and absent", id="fewer"
        ),
        pytest.param(
            nn.Sequential(*model().children(), nn.Linear(2, 2)),
            "2.bias is absent in the check",
            id="more",
        ),
    ],
)
def test_another_layer_is_refused_by_name(checkpoint: Path, other: nn.Module, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        load_weights(other, checkpoint)


def test_tied_weights_may_be_saved_once(checkpoint: Path) -> None:
    class Tied(nn.Sequential):
        all_tied_weights_keys = {"2.weight": "0.weight"}  # noqa: RUF012 (as transformers has it)

        def tie_weights(self) -> None:
            self[2].weight = self[0].weight

    tied = Tied(*model().children(), nn.Linear(2, 3, bias=False))

    load_weights(tied, checkpoint)

    assert tied[2].weight is tied[0].weight
