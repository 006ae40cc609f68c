"""How fast checkpoints go to the store and come back, beside copying and hashing the same bytes."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import copytree, rmtree
from statistics import median

import psutil
from mlflow import MlflowClient

from benchmarks.place import settle
from benchmarks.table import table
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.manifest import Description, Manifest
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.files import flush_tree, sha256
from mmrun.tracking.mlflow_store import MlflowStore
from tests.mlflow_server import mlflow_server

TITLE = "Sending and restoring 1.5 GB"
_FILES = {"model.safetensors": 500, "optimizer.pt": 1000}
"""Megabytes, as a model of 125 million parameters has them."""
_ROUNDS = 3
_MB = 1_000_000
_LOOK_S = 0.005
_PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one action took."""

    seconds: float
    memory_mb: float
    """By how much the process grew at most."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """What is measured, and the least that one would expect of it."""

    name: str
    call: Callable[[], object]
    prepare: Callable[[], object]
    floor: Callable[[], object] | None = None


def run(folder: Path) -> str:
    """Measure with a folder as the store and with a server; return the table."""
    _write(folder / "source")
    rows = _rows("a folder", f"sqlite:///{folder / 'mlflow.db'}", folder)
    with mlflow_server(folder / "server") as uri:
        rows += _rows("`mlflow server`", uri, folder)
    head = ("store", "action", "time (s)", "floor (s)", "floor / time", "memory (MB)")
    return (
        f"{table(head, rows)}\n\n"
        f"Medians of {_ROUNDS}. The floor is copying the files (with a server: MLflow's own call) "
        "and then hashing them with one thread; restoring flushes to disk, and so does its floor. "
        "Memory is what the process grew by at most."
    )


def _rows(store: str, uri: str, folder: Path) -> list[tuple[object, ...]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transfer", uri, str(folder)],
        cwd=Path.cwd(),
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows: list[tuple[object, ...]] = []
    for line in done.stdout.splitlines():
        action, seconds, floor, memory = line.split("\t")
        least = (float(floor), float(floor) / float(seconds)) if floor else ("", "")
        rows.append((store, action, float(seconds), *least, float(memory)))
    return rows


def main() -> None:
    """Measure against the store of the first argument, in the folder of the second."""
    store = MlflowStore(sys.argv[1])
    run_id = store.create(experiment="bench", name=None, tags={}).run_id
    bench = _Bench(Path(sys.argv[2]), store=store, run_id=run_id)
    bench.warm_up()
    for action in bench.actions():
        costs: list[Cost] = []
        floors: list[Cost] = []
        for _ in range(_ROUNDS):  # in turn, since machines have moods
            for call, into in ((action.floor, floors), (action.call, costs)):
                if call is not None:
                    action.prepare()
                    bench.settle()
                    into.append(_measured(call))
        floor = median(cost.seconds for cost in floors) if floors else ""
        memory = max(cost.memory_mb for cost in costs)
        print(action.name, median(c.seconds for c in costs), floor, memory, sep="\t", flush=True)


class _Bench:
    """The actions and their floors.

    What they write is removed in between, so that all of them find the memory for the disk's
    cache as used as the others do.
    """

    def __init__(self, folder: Path, *, store: MlflowStore, run_id: str) -> None:
        self._source = folder / "source"
        self._back = folder / "back"
        self._uri = store.uri
        self._far = self._uri.startswith("http")
        self._run_id = run_id
        self._artifacts = store.artifacts(run_id)
        self._remote = RemoteCheckpoints(self._artifacts)

    def actions(self) -> Sequence[Action]:
        """Return what is measured, in the order to do it: what comes back was sent before."""
        return (
            Action(
                name="mmrun: digests, send",
                prepare=self._forget,
                call=self._send,
                floor=self._least_to_send,
            ),
            Action(name="MLflow: log_artifacts", prepare=self._forget, call=self._log_artifacts),
            Action(
                name="mmrun: restore, verified",
                prepare=self._have,
                call=self._restore,
                floor=self._least_to_restore,
            ),
            Action(
                name="MLflow: download_artifacts",
                prepare=self._have,
                call=self._download_artifacts,
            ),
        )

    def warm_up(self) -> None:
        """Do everything once with a small file: what is imported then is no cost of a transfer."""
        small = self._back / "small"
        small.mkdir(parents=True)
        (small / "file").write_bytes(os.urandom(_MB))
        _describe(small, step=2)
        self._remote.upload(small, name="checkpoint-2")
        self._remote.restore("checkpoint-2", to=self._back / "again")
        self._client.log_artifacts(self._run_id, str(small), _PLAIN)
        self._client.download_artifacts(self._run_id, _PLAIN, str(self._back))
        self.settle()

    def settle(self) -> None:
        """Remove what came back, and let the disk rest."""
        rmtree(self._back, ignore_errors=True)
        self._back.mkdir()
        settle()

    def _forget(self) -> None:
        self._remote.drop(saved.name for saved in self._remote.look()[0])
        self._artifacts.delete(_PLAIN)

    def _have(self) -> None:
        if not self._artifacts.list(_PLAIN):
            self._log_artifacts()
        if not self._remote.look()[0]:
            self._send()

    def _send(self) -> None:
        _describe(self._source, step=1)
        self._remote.upload(self._source, name="checkpoint-1")

    def _restore(self) -> None:
        self._remote.restore("checkpoint-1", to=self._back / "restored")

    def _least_to_send(self) -> None:
        if self._far:
            self._log_artifacts()
        else:
            copytree(self._source, self._back / "copy")
        self._hash()

    def _least_to_restore(self) -> None:
        if self._far:
            self._download_artifacts()
        else:
            copytree(self._source, self._back / "copy")
        flush_tree(self._back)
        self._hash()

    def _hash(self) -> None:
        for name in _FILES:
            sha256(self._source / name)

    def _log_artifacts(self) -> None:
        self._client.log_artifacts(self._run_id, str(self._source), _PLAIN)

    def _download_artifacts(self) -> None:
        self._client.download_artifacts(self._run_id, _PLAIN, str(self._back))

    @cached_property
    def _client(self) -> MlflowClient:
        return MlflowClient(self._uri)


def _write(source: Path) -> None:
    source.mkdir()
    for name, megabytes in _FILES.items():
        with (source / name).open("wb") as file:
            for _ in range(megabytes):
                file.write(os.urandom(_MB))
    flush_tree(source)


def _describe(folder: Path, *, step: int) -> None:
    """Hash the files and write their manifest, as a training does it before it sends them."""
    (folder / manifests.MANIFEST).unlink(missing_ok=True)
    description = Description(
        run_id="0" * 32, step=step, attempt=1, config_fingerprint="", data_version=""
    )
    manifest = Manifest.of(description, created_ms=0, files=manifests.describe(folder))
    manifests.write(folder, manifest)


def _measured(call: Callable[[], object]) -> Cost:
    with _growth() as grown:
        begun = time.perf_counter()
        call()
        seconds = time.perf_counter() - begun
    return Cost(seconds=seconds, memory_mb=max(grown) / _MB)


@contextmanager
def _growth() -> Iterator[list[int]]:
    """Watch how many bytes this process has more than at the beginning."""
    process, over = psutil.Process(), threading.Event()
    before = process.memory_info().rss
    grown = [0]

    def look() -> None:
        while not over.wait(_LOOK_S):
            grown.append(process.memory_info().rss - before)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield grown
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    main()
