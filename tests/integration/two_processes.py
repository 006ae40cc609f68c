"""Attempts in two processes, for `test_two_processes.py`, which starts this with torchrun.

Each process writes what it saw to ``process-<rank>.json`` in the folder that is named.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import distributed

from tests.integration.attempts import Attempt, Lab

LOGGING: Mapping[str, Any] = {"logging_steps": 2}
"""The checkpoint of step 5 falls between two log lines."""
STOPPED_AT = 5
GROUPED: Mapping[str, Any] = {"train_sampling_strategy": "group_by_length", "max_steps": 3}
SCORED: Mapping[str, Any] = {
    "learning_rate": 0.0,
    "max_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "per_device_eval_batch_size": 2,
    "predict_with_generate": True,
    "metric_name": "chrf",
}
"""Evaluates the model that setup made: 5 rows, which two processes cannot share evenly."""


def main(folder: Path) -> None:
    """Do every attempt that a test looks at."""
    lab = Lab(folder, attempts=folder / "two")
    one = folder / "one.json"
    seen = {"alone": _seen(lab.attempt(**LOGGING))}
    rank = distributed.get_rank()
    stopped = lab.attempt(stop_at=STOPPED_AT if rank == 1 else None, **LOGGING)
    seen["stopped"] = _seen(stopped)
    seen["resumed"] = _seen(lab.attempt(stopped.checkpoint, **LOGGING))
    from_one = Path(json.loads(one.read_text(encoding="utf-8")))
    seen["from one"] = _seen(lab.attempt(from_one, max_steps=10))
    seen["grouped"] = _seen(lab.attempt(**GROUPED))
    seen["scored"] = _seen(lab.attempt(**SCORED))
    (folder / f"process-{rank}.json").write_text(json.dumps(seen), encoding="utf-8")
    distributed.destroy_process_group()


def _seen(attempt: Attempt) -> dict[str, Any]:
    distributed.barrier()  # the first process may still be writing
    return {
        "step": attempt.step,
        "trained": attempt.trained,
        "logged": attempt.logged,
        "checkpoint": str(attempt.checkpoint),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
