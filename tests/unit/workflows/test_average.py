"""A mean of checkpoints of which one goes while it is made."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mmrun.checkpoints.found import Found, RemovedMeanwhile
from mmrun.workflows.checkpoints.average import write_average
from tests.unit.checkpoints.samples import Place


def test_one_that_is_rotated_away_meanwhile_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for step in (5, 10):
        place.save(step)
        weights = place.local.path(f"checkpoint-{step}") / "model.safetensors"
        save_file({"layer": torch.ones(3)}, weights)
    found = [
        Found(
            name=saved.name,
            step=saved.step,
            manifest=manifest,
            where="local",
            path=place.local.path(saved.name),
        )
        for saved, manifest in place.local.list()
    ]
    place.local.remove("checkpoint-5")

    with pytest.raises(RemovedMeanwhile, match="checkpoint-5 was removed while") as caught:
        write_average(found, to=tmp_path / "mean")

    assert "takes it from the store" in caught.value.hint
    assert not (tmp_path / "mean").exists()
