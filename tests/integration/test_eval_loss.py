"""The loss of an evaluation: that of its rows, however they are put in batches."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.attempts import Lab

EVALUATED: dict[str, Any] = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 2}


@pytest.mark.parametrize("generated", [False, True])
def test_it_does_not_depend_on_the_batch_size(tmp_path: Path, generated: bool) -> None:
    lab = Lab(tmp_path)
    options = {**EVALUATED, "predict_with_generate": generated}

    one, many = (
        lab.attempt(**options, per_device_eval_batch_size=size).values("eval_loss")[2]
        for size in (1, 4)
    )

    assert one == pytest.approx(many, rel=1e-6)


def test_rows_that_cannot_be_read_do_not_count(tmp_path: Path) -> None:
    lab = Lab(tmp_path, data={"on_bad_sample": "skip"})
    (tmp_path / "validation-0.npy").write_bytes(b"broken")
    (tmp_path / "validation-3.npy").write_bytes(b"broken")

    one, many = (
        lab.attempt(**EVALUATED, per_device_eval_batch_size=size).values("eval_loss")[2]
        for size in (1, 4)
    )

    assert one == pytest.approx(many, rel=1e-6)
    assert one > 1
