"""Working stand-ins, held to the same contract tests as the real adapters."""

import json
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmrun.errors import TrackingError
from mmrun.tracking.artifact_path import checked, checked_folder
from mmrun.tracking.store import (
    Artifact,
    Point,
    RecordedExperiment,
    Run,
    RunStatus,
    UnreachableError,
)


class MemoryArtifacts:
    """An ``ArtifactStore`` in memory."""

    def __init__(self, store: "MemoryStore") -> None:
        self.files: dict[str, bytes] = {}
        self._store = store

    def list(self, folder: str = "") -> list[Artifact]:
        self._store.answer()
        prefix = f"{folder}/" if checked_folder(folder) else ""
        below = {
            path.removeprefix(prefix): content
            for path, content in self.files.items()
            if path.startswith(prefix)
        }
        folders = {path.partition("/")[0] for path in below if "/" in path}
        entries = [Artifact(path=prefix + name, is_folder=True, size=None) for name in folders]
        entries += [
            Artifact(path=prefix + name, is_folder=False, size=len(content))
            for name, content in below.items()
            if "/" not in name
        ]
        return sorted(entries, key=lambda entry: entry.path)

    def upload(self, file: Path, *, to: str) -> None:
        self._store.answer()
        path = checked(f"{to}/{file.name}" if to else file.name)
        if not file.is_file():
            raise TrackingError(f"cannot upload {file}: there is no such file")
        self.files[path] = file.read_bytes()

    def download(self, path: str, *, to: Path) -> None:
        content = self.read(path)
        if content is None:
            raise TrackingError(f"the run has no artifact {path!r}")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(content)

    def read(self, path: str) -> bytes | None:
        self._store.answer()
        return self.files.get(checked(path))

    def write(self, path: str, content: bytes) -> None:
        self._store.answer()
        self.files[checked(path)] = content

    def delete(self, path: str) -> None:
        self._store.answer()
        checked(path)
        for name in [n for n in self.files if n == path or n.startswith(f"{path}/")]:
            del self.files[name]


class MemoryStore:
    """A ``RunStore`` in memory; ``away`` makes it unreachable."""

    uri = "memory:"

    def __init__(self) -> None:
        self.away = False
        self.runs: dict[str, Run] = {}
        self.deleted: set[str] = set()
        self.points: dict[str, list[Point]] = {}
        self._artifacts: dict[str, MemoryArtifacts] = {}
        self._experiments: list[str] = []
        self._lock = threading.RLock()

    def answer(self) -> None:
        """Raise as every method does while the store is away."""
        if self.away:
            raise UnreachableError(f"the tracking server at {self.uri} does not answer")

    def ping(self) -> None:
        self.answer()

    def experiments(self, *, deleted: bool = False) -> list[RecordedExperiment]:
        self.answer()
        names = {} if deleted else dict(enumerate(self._experiments))
        return [
            RecordedExperiment(experiment_id=str(n), name=name, artifact_location="memory:")
            for n, name in names.items()
        ]

    def create(
        self,
        *,
        experiment: str,
        name: str | None,
        tags: Mapping[str, str],
        experiment_id: str | None = None,
        started_ms: int | None = None,
    ) -> Run:
        self.answer()
        if experiment_id is None and experiment not in self._experiments:
            self._experiments.append(experiment)
        run = Run(
            run_id=uuid.uuid4().hex,
            experiment_id=experiment_id or str(self._experiments.index(experiment)),
            name=name or f"unnamed-{len(self.runs)}",
            status="RUNNING",
            tags=dict(tags),
            started_ms=time.time_ns() // 1_000_000,
        )
        self.runs[run.run_id] = run
        return run

    def read(self, run_id: str) -> Run:
        self.answer()
        if run_id not in self.runs:
            raise TrackingError(f"there is no run {run_id!r} at {self.uri}")
        if run_id in self.deleted:
            raise TrackingError(f"run {run_id} was deleted from {self.uri}")
        newest = {
            point.key: point
            for point in sorted(
                self.points.get(run_id, []), key=lambda point: (point.step, point.timestamp_ms)
            )
        }
        return replace(self.runs[run_id], newest=newest)

    def find(self, *, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
        self.answer()
        return [
            self.read(run_id)
            for run_id, run in reversed(self.runs.items())
            if run_id not in self.deleted
            and run.experiment_id == experiment_id
            and tags.items() <= run.tags.items()
        ]

    def set_status(self, run_id: str, status: RunStatus, *, ended_ms: int | None = None) -> None:
        run = self.read(run_id)
        final = status not in {"RUNNING", "SCHEDULED"}
        ended_ms = (ended_ms or time.time_ns() // 1_000_000) if final else run.ended_ms
        self.runs[run_id] = replace(run, status=status, ended_ms=ended_ms)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        with self._lock:
            run = self.read(run_id)
            self.runs[run_id] = replace(run, tags={**run.tags, **tags})

    def claim_param(self, run_id: str, key: str, value: str) -> bool:
        with self._lock:
            run = self.read(run_id)
            if run.params.get(key, value) != value:
                return False
            self.runs[run_id] = replace(run, params={**run.params, key: value})
            return True

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        known = self.read(run_id).params
        for key, value in params.items():
            if known.get(key, value) != value:
                raise TrackingError(f"the parameter {key!r} was already logged with {known[key]!r}")
        for key, value in params.items():
            self.claim_param(run_id, key, value)

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        self.read(run_id)
        with self._lock:
            stored = self.points.setdefault(run_id, [])
            known = {_identity(point) for point in stored}
            for point in points:
                if _identity(point) not in known:
                    known.add(_identity(point))
                    stored.append(point)

    def history(self, run_id: str, key: str) -> list[Point]:
        self.read(run_id)
        found = [point for point in self.points.get(run_id, []) if point.key == key]
        return sorted(found, key=lambda point: (point.step, point.timestamp_ms))

    def between(self, run_id: str, key: str, *, first: int, last: int) -> list[Point]:
        history = MemoryStore.history(self, run_id, key)
        return [point for point in history if first <= point.step <= last]

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], *, path: str) -> None:
        rows = list(zip(*columns.values(), strict=True))
        content = json.dumps({"columns": list(columns), "data": rows})
        self.artifacts(run_id).files[checked(path)] = content.encode()
        tables = json.loads(self.read(run_id).tags.get("mlflow.loggedArtifacts", "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in tables:
            self.set_tags(run_id, {"mlflow.loggedArtifacts": json.dumps([*tables, entry])})

    def delete(self, run_id: str) -> None:
        self.read(run_id)
        self.deleted.add(run_id)

    def artifacts(self, run_id: str) -> MemoryArtifacts:
        return self._artifacts.setdefault(run_id, MemoryArtifacts(self))


def _identity(point: Point) -> tuple[str, int, int, str]:
    return point.key, point.step, point.timestamp_ms, repr(point.value)
