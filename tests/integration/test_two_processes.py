"""Two processes that train together: the data, the generators, the metrics, the wish to stop."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.attempts import ROWS, Attempt, Lab
from tests.integration.two_processes import GROUPED, SCORED, STOPPED_AT
from tests.recovery.project import outside

ROOT = Path(__file__).parents[2]
BATCH = 4
LATER = 8
"""The step at which one process leaves the training to two, in the middle of the second epoch."""


@dataclass(frozen=True, kw_only=True)
class Both:
    """What two processes did, and one process beside them."""

    lab: Lab
    seen: Sequence[dict[str, Any]]
    one: Attempt
    """One process, stopped at step ``LATER``, from where two go on."""

    def order(self, attempt: str) -> list[int]:
        """Return the samples in the order of the epochs: the processes take batches in turn."""
        samples = [process[attempt]["trained"] for process in self.seen]
        starts = range(0, len(samples[0]), BATCH)
        return [
            sample for start in starts for own in samples for sample in own[start : start + BATCH]
        ]

    def weights(self, attempt: str) -> dict[str, torch.Tensor]:
        return load_file(Path(self.seen[0][attempt]["checkpoint"]) / "model.safetensors")

    def logged(self, attempt: str, *keys: str) -> dict[tuple[str, int], float]:
        lines = self.seen[0][attempt]["logged"]
        return {(key, step): value for key, step, value in lines if key in keys}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("two")
    lab = Lab(folder)
    one = lab.attempt(stop_at=LATER)
    (folder / "one.json").write_text(json.dumps(str(one.checkpoint)), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, "--module", "tests.integration.two_processes", str(folder)],
        cwd=ROOT,
        env=outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    seen = [json.loads((folder / f"process-{rank}.json").read_text("utf-8")) for rank in (0, 1)]
    return Both(lab=lab, seen=seen, one=one)


def test_an_epoch_is_divided_and_filled_up_with_its_first_sample(both: Both) -> None:
    first_epoch = both.order("alone")[: ROWS["train"] + 1]

    assert sorted(first_epoch[:-1]) == list(range(ROWS["train"]))
    assert first_epoch[-1] == first_epoch[0]


def test_a_wish_of_one_process_stops_both_at_the_same_step(both: Both) -> None:
    assert [process["stopped"]["step"] for process in both.seen] == [STOPPED_AT] * 2


def test_a_resumed_training_is_the_one_that_was_left_alone(both: Both) -> None:
    alone, resumed = both.weights("alone"), both.weights("resumed")

    assert all(torch.equal(resumed[name], alone[name]) for name in alone)
    assert both.order("stopped") + both.order("resumed") == both.order("alone")


def test_the_log_line_over_a_resume_is_the_mean_of_all_processes(both: Both) -> None:
    keys = ("loss", "grad_norm", "train_loss")
    together = both.logged("stopped", *keys) | both.logged("resumed", *keys)

    assert together == both.logged("alone", *keys)


def test_one_process_goes_on_where_two_stopped(both: Both) -> None:
    checkpoint = Path(both.seen[0]["stopped"]["checkpoint"])

    one = both.lab.attempt(checkpoint)

    begun = both.order("stopped")[ROWS["train"] + 1 :]
    left = ROWS["train"] - len(begun)
    assert sorted(begun + one.trained[:left]) == list(range(ROWS["train"]))


def test_two_processes_go_on_where_one_stopped(both: Both) -> None:
    begun = both.one.trained[ROWS["train"] :]
    left = ROWS["train"] - len(begun)

    rest = both.order("from one")[:left]

    assert sorted(begun + rest) == list(range(ROWS["train"]))


def test_samples_of_like_length_are_put_together_over_all_processes(both: Both) -> None:
    one = both.lab.attempt(**{**GROUPED, "per_device_train_batch_size": 2 * BATCH})

    assert both.order("grouped")[: ROWS["train"]] == one.trained[: ROWS["train"]]


def test_every_row_counts_once_in_the_scores(both: Both) -> None:
    one = both.lab.attempt(**SCORED)

    assert both.logged("scored", "eval_chrf") == {("eval_chrf", 1): one.values("eval_chrf")[1]}
