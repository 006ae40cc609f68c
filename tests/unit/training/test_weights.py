"""Frozen weights in a shard of their own, which Hugging Face reads like any other."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForSeq2SeqLM

from mmrun.files import sha256
from mmrun.training.fit import saved_shapes
from mmrun.training.weights import FROZEN, TRAINED, constant_files, save_with_frozen_apart
from tests.unit.models.tiny import M2M, model

WIDE = {**M2M, "d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}
"""Large enough for the frozen part to be worth a file."""


def save(built: Any, folder: Path) -> Path:
    folder.mkdir()
    save_with_frozen_apart(
        built, folder, save=lambda state: built.save_pretrained(folder, state_dict=state)
    )
    return folder


def names_in(path: Path) -> set[str]:
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


@pytest.fixture
def frozen() -> Any:
    return model(backbone_config=WIDE, freeze_backbone=True)


def test_what_is_frozen_lies_apart_and_nothing_is_there_twice(frozen: Any, tmp_path: Path) -> None:
    folder = save(frozen, tmp_path / "saved")

    trained, apart = names_in(folder / TRAINED), names_in(folder / FROZEN)
    assert all(name.startswith("multimodal_mapper.") for name in trained)
    assert all(name.startswith("backbone.") for name in apart)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == trained | apart
    assert not (folder / "model.safetensors").exists()
    assert not list(folder.glob(".*"))


def test_the_shards_hold_what_one_file_would(frozen: Any, tmp_path: Path) -> None:
    frozen.save_pretrained(tmp_path / "plain")

    folder = save(frozen, tmp_path / "saved")

    assert saved_shapes(folder) == saved_shapes(tmp_path / "plain")


def test_transformers_reads_it(frozen: Any, tmp_path: Path) -> None:
    folder = save(frozen, tmp_path / "saved")

    read = AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()

    assert all(torch.equal(read[name], tensor) for name, tensor in frozen.state_dict().items())


def test_the_frozen_shard_is_the_same_file_after_training(frozen: Any, tmp_path: Path) -> None:
    before = save(frozen, tmp_path / "before")
    with torch.no_grad():
        for parameter in frozen.parameters():
            parameter.add_(parameter.requires_grad)

    after = save(frozen, tmp_path / "after")

    assert sha256(before / FROZEN) == sha256(after / FROZEN)
    assert sha256(before / TRAINED) != sha256(after / TRAINED)
    assert FROZEN in constant_files(after)
    assert TRAINED not in constant_files(after)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="nothing is frozen"),
        pytest.param({"freeze_multimodal_mapper": True}, id="only a little is"),
    ],
)
def test_otherwise_there_is_one_file(settings: dict[str, Any], tmp_path: Path) -> None:
    folder = save(model(**settings), tmp_path / "saved")

    assert (folder / "model.safetensors").exists()
    assert not (folder / FROZEN).exists()
    assert "model.safetensors" not in constant_files(folder)
