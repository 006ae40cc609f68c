"""How long many points take to a server, beside MLflow's own calls."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow

from benchmarks.recording import attempt, served
from benchmarks.table import table
from mmrun.tracking.mlflow_store import MlflowStore

TITLE = "100,000 points to a server"
_METRICS, _STEPS = 100, 1000
_PATIENCE_S = 600


def run(folder: Path) -> str:
    """Send them to a server before PostgreSQL, by each way in turn."""
    rows = []
    with served(folder / "server") as server:
        for variant, name in _NAMES.items():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.points", server.uri, variant, str(folder)],
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            logging_s, all_s, stored = done.stdout.split()
            rows.append((name, float(logging_s), float(all_s), int(stored)))
    head = ("variant", "logging them (s)", "until all are there (s)", "points in the store")
    return (
        f"{table(head, rows)}\n\n"
        f"{_METRICS} metrics, {_STEPS} steps, logged as fast as it goes to a real `mlflow server` "
        "with one worker, before a PostgreSQL that flushes to disk."
    )


def main() -> None:
    """Send the points as the arguments say; print both times, and how many were stored."""
    uri, variant, folder = sys.argv[1:]
    store = MlflowStore(uri)
    run_id = store.create(experiment="bench", name=None, tags={}).run_id
    begun = time.perf_counter()
    if variant == "mmrun":
        with attempt(store, run_id, folder=Path(folder)) as (opened, sender):
            for step, values in _lines():
                opened.log(values, step)
            logged = time.perf_counter()
            sender.flush(_PATIENCE_S)
    else:
        mlflow.set_tracking_uri(uri)
        for step, values in _lines():
            mlflow.log_metrics(values, step=step, run_id=run_id, synchronous=variant != "async")
        logged = time.perf_counter()
        mlflow.flush_async_logging()
    ended = time.perf_counter()
    stored = sum(len(store.history(run_id, key)) for key in store.read(run_id).newest)
    print(logged - begun, ended - begun, stored)


_NAMES = {
    "mmrun": "mmrun",
    "async": "`log_metrics`, asynchronous",
    "sync": "`log_metrics`",
}


def _lines() -> Iterator[tuple[int, dict[str, float]]]:
    for step in range(_STEPS):
        yield step, {f"metric_{number}": step / 7 + number for number in range(_METRICS)}


if __name__ == "__main__":
    main()
