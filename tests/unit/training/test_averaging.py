"""The mean of weights, tensor by tensor, whatever their type and however they are stored."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmrun.errors import CheckpointError
from mmrun.training.averaging import average_weights

Weights = Mapping[str, torch.Tensor]


def saved(folder: Path, weights: Weights) -> Path:
    folder.mkdir()
    save_file(dict(weights), folder / "model.safetensors")
    return folder


def saved_in_shards(folder: Path, weights: Weights) -> Path:
    folder.mkdir()
    for name, tensor in weights.items():
        save_file({name: tensor}, folder / f"model-{name}.safetensors")
    shards = {name: f"model-{name}.safetensors" for name in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return folder


def mean_of(*folders: Path) -> Weights:
    to = folders[0].with_name("mean.safetensors")
    average_weights(folders, to=to)
    return load_file(to)


def random_weights(seed: int, dtype: torch.dtype) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": torch.randn(3, 5, generator=generator).to(dtype),
        "b": torch.randn(7, generator=generator).to(dtype),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_the_mean_is_that_of_exact_numbers_and_keeps_the_type(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    three = [random_weights(seed, dtype) for seed in range(3)]

    mean = mean_of(*(saved(tmp_path / str(n), weights) for n, weights in enumerate(three)))

    for name in ("a", "b"):
        exact = torch.stack([weights[name].double() for weights in three]).mean(dim=0)
        assert mean[name].dtype == dtype
        torch.testing.assert_close(mean[name], exact.to(dtype), rtol=0, atol=0)


def test_halves_that_would_overflow_together_do_not(tmp_path: Path) -> None:
    large = {"a": torch.full((4,), 60000.0, dtype=torch.float16)}

    mean = mean_of(saved(tmp_path / "0", large), saved(tmp_path / "1", large))

    assert torch.equal(mean["a"], large["a"])


def test_what_is_no_floating_point_number_is_that_of_the_last(tmp_path: Path) -> None:
    first = {"count": torch.tensor([1, 5]), "mask": torch.tensor([True]), "a": torch.zeros(2)}
    last = {"count": torch.tensor([2, 6]), "mask": torch.tensor([False]), "a": torch.ones(2)}

    mean = mean_of(saved(tmp_path / "0", first), saved(tmp_path / "1", last))

    assert mean["count"].tolist() == [2, 6]
    assert mean["mask"].tolist() == [False]
    assert mean["a"].tolist() == [0.5, 0.5]


def test_shards_and_one_file_are_averaged_alike(tmp_path: Path) -> None:
    one, other = random_weights(0, torch.float32), random_weights(1, torch.float32)

    mean = mean_of(saved(tmp_path / "0", one), saved_in_shards(tmp_path / "1", other))

    assert torch.equal(mean["a"], ((one["a"].double() + other["a"].double()) / 2).float())


@pytest.mark.parametrize(
    ("other", "said"),
    [
        pytest.param({"a": torch.zeros(4)}, r"a is \(3,\) in the one and \(4,\)", id="shape"),
        pytest.param({"b": torch.zeros(3)}, r"a is \(3,\) in the one and None", id="name"),
    ],
)
def test_other_tensors_are_of_another_model(tmp_path: Path, other: Weights, said: str) -> None:
    folders = [saved(tmp_path / "one", {"a": torch.zeros(3)}), saved(tmp_path / "other", other)]

    with pytest.raises(CheckpointError, match=said):
        average_weights(folders, to=tmp_path / "mean.safetensors")

    assert not (tmp_path / "mean.safetensors").exists()
