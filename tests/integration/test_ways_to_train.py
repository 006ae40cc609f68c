"""A resume is exact in every way to train that the model takes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.attempts import Lab

LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1}
WAYS = [
    pytest.param({"lora": LORA}, {}, id="adapters"),
    pytest.param({"lora": LORA}, {"activation_checkpointing": True}, id="adapters, checkpointing"),
    pytest.param({"freeze_backbone": True}, {}, id="frozen backbone"),
    pytest.param({"backbone_type": "mbart"}, {"bf16": True}, id="bf16"),
    pytest.param({"backbone_type": "marian"}, {"activation_checkpointing": True}, id="marian"),
]


@pytest.mark.parametrize(("model", "training"), WAYS)
def test_the_weights_after_a_resume_are_those_of_one_go(
    tmp_path: Path, model: dict[str, Any], training: dict[str, Any]
) -> None:
    lab = Lab(tmp_path, model=model)
    alone = lab.attempt(**training)

    stopped = lab.attempt(stop_at=5, **training)
    resumed = lab.attempt(stopped.checkpoint, **training)

    assert resumed.weights.keys() == alone.weights.keys()
    assert all(torch.equal(resumed.weights[name], alone.weights[name]) for name in alone.weights)
    assert {**stopped.values("loss"), **resumed.values("loss")} == alone.values("loss")
