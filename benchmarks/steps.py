"""What it costs the training thread to log a step, beside MLflow's own calls."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import mean, median

import mlflow
import numpy as np

from benchmarks.recording import attempt, served
from benchmarks.table import table
from mmrun.collector import collect_as_usual, collect_rarely
from mmrun.tracking.mlflow_store import MlflowStore
from tests.mlflow_server import MlflowServer

TITLE = "What a logged step costs the training thread"
_STEP_S = 0.02
_STEPS = {1: 200, 10: 200, 1000: 50}
"""How many steps are logged, by the number of metrics that each has."""
_MMRUN = "mmrun"
_VARIANTS = {
    _MMRUN: "mmrun",
    "asynchronous": "`log_metrics`, asynchronous",
    "synchronous": "`log_metrics`",
}
_DOWN = "the server down"
_PATIENCE_S = 120
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
Log = Callable[[dict[str, float], int], object]


def run(folder: Path) -> str:
    """Measure on SQLite, on a server before PostgreSQL, and with the server down."""
    rows = _rows("SQLite", f"sqlite:///{folder / 'mlflow.db'}", folder, _VARIANTS)
    with served(folder / "server") as server:
        rows += _rows("a server, PostgreSQL", server.uri, folder, _VARIANTS)
    rows += _rows(_DOWN, f"sqlite:///{folder / 'mlflow.db'}", folder, [_MMRUN])
    head = ("tracking store", "metrics a step", "variant", "mean (ms)", "median", "longest")
    return (
        f"{table(head, rows)}\n\n"
        f"Steps of {1000 * _STEP_S:.0f} ms on one thread, each of them logged. With the server "
        "down MLflow's synchronous call tries for four minutes, and its asynchronous one loses "
        "what it could not send."
    )


def _rows(
    store: str, uri: str, folder: Path, variants: Sequence[str] | Mapping[str, str]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for metrics in _STEPS:
        for variant in variants:
            words = [uri, variant, str(metrics), str(folder), store]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.steps", *words],
                env={**os.environ, **_QUIET, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            seconds = [float(word) for word in done.stdout.split()]
            times = [1000 * one for one in (mean(seconds), median(seconds), max(seconds))]
            rows.append((store, metrics, _VARIANTS[variant], *times))
    return rows


def main() -> None:
    """Log steps as the arguments say, and print how long each took to log."""
    uri, variant, count, folder, store = sys.argv[1:]
    metrics = int(count)
    collect_rarely()
    with _LOGGING[variant](uri, Path(folder, f"{store}, {metrics}"), away=store == _DOWN) as log:
        collect_as_usual()
        log(_values(metrics, 0), 0)  # what is imported at the first one does not count
        for step in range(1, _STEPS[metrics] + 1):
            _train()
            values = _values(metrics, step)
            begun = time.perf_counter()
            log(values, step)
            print(time.perf_counter() - begun)


@contextmanager
def _mmrun(uri: str, folder: Path, *, away: bool) -> Iterator[Log]:
    server = MlflowServer(folder / "server")
    if away:
        server.start()
    store = MlflowStore(server.uri if away else uri)
    run_id = store.create(experiment="bench", name=None, tags={}).run_id
    server.stop()
    with attempt(store, run_id, folder=folder) as (opened, sender):
        yield opened.log
        sender.flush(0 if away else _PATIENCE_S)


@contextmanager
def _mlflow(uri: str, *, synchronous: bool) -> Iterator[Log]:
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run():
        yield lambda values, step: mlflow.log_metrics(values, step=step, synchronous=synchronous)
        mlflow.flush_async_logging()


_LOGGING: Mapping[str, Callable[..., AbstractContextManager[Log]]] = {
    _MMRUN: _mmrun,
    "asynchronous": lambda uri, *_, **__: _mlflow(uri, synchronous=False),
    "synchronous": lambda uri, *_, **__: _mlflow(uri, synchronous=True),
}


def _values(metrics: int, step: int) -> dict[str, float]:
    return {f"metric_{number}": step / 7 + number for number in range(metrics)}


def _train() -> None:
    """Compute for a while, as libraries do: most of the time others may have their turn."""
    end = time.perf_counter() + _STEP_S
    matrix = np.ones((256, 256))
    while time.perf_counter() < end:
        matrix = matrix @ matrix / 256


if __name__ == "__main__":
    main()
