"""A resume with `full_determinism`, on a CPU and on an accelerator."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.devices import DEVICES
from tests.integration.attempts import Lab


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for name in ("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"):  # set by transformers
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    before = torch.are_deterministic_algorithms_enabled()
    yield Lab(tmp_path_factory.mktemp("lab"))
    torch.use_deterministic_algorithms(before)
    torch.backends.cudnn.deterministic = False


@pytest.mark.parametrize("device", DEVICES)
def test_the_weights_after_a_resume_are_those_of_one_go(lab: Lab, device: str) -> None:
    training: dict[str, Any] = {
        "use_cpu": device == "cpu",
        "full_determinism": True,
        "logging_steps": 2,
    }
    alone = lab.attempt(**training)

    stopped = lab.attempt(stop_at=5, **training)
    resumed = lab.attempt(stopped.checkpoint, **training)

    assert all(torch.equal(resumed.weights[name], alone.weights[name]) for name in alone.weights)
    assert {**stopped.values("loss"), **resumed.values("loss")} == alone.values("loss")
    assert next(resumed.trainer.model.parameters()).device.type == device
