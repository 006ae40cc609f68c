"""A run on this disk, for a training that may not ask its tracking server: all of it waits there.

``OUTPUT_DIR/offline`` has what a server would have been told, but for metric points, which are in
the journal, and checkpoints, which are in the spool. A run that no server knows has an id of its
own until it is sent.
"""

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from mmrun import files
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

FORMAT = 1
NAME = "offline"
_STATE = "run.json"
_ARTIFACTS = "artifacts"
_NOT_ASKED = "the tracking server is not asked while training is offline"
_CHECKPOINTS = "checkpoints"
_FINAL: frozenset[RunStatus] = frozenset({"FINISHED", "FAILED", "KILLED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineRun:
    """What is to be told of a run."""

    run_id: str
    tracking_uri: str
    """Of the server that it is meant for, without secrets."""
    experiment: str = ""
    """Where the run is to be made, if ``unknown``."""
    experiment_id: str = ""
    """What the server calls that, if it is known."""
    name: str | None = None
    unknown: bool = False
    """Whether no server has the run: ``run_id`` was made here."""
    tries: Sequence[str] = ()
    """A word for each time that a server was asked to make the run, until one is known to have."""
    becomes: str | None = None
    """The id that a server gave it, while this folder still has the one that was made here."""
    started_ms: int = 0
    ended_ms: int | None = None
    status: RunStatus | None = None
    """None while nothing is to be said of it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return what waits in ``folder``, or None where nothing does."""
        path = folder / _STATE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.pop("format")
            if found != FORMAT:
                raise TrackingError(
                    f"{path} has format {found}; this mmrun reads format {FORMAT}",
                    hint="use the mmrun that wrote it",
                )
            return cls(**content)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrackingError(
                f"{path} is damaged: {error}",
                hint="keep the folder: its journal, checkpoints and records are not affected",
            ) from error

    def write(self, folder: Path) -> None:
        """Keep it, whole."""
        content = {"format": FORMAT, **asdict(self)}
        files.write_whole(folder / _STATE, json.dumps(content, indent=1) + "\n")


def waiting_artifacts(folder: Path) -> Mapping[str, Path]:
    """Return the artifacts that wait in ``folder``, by their path in the run."""
    root = folder / _ARTIFACTS
    found = sorted(path for path in root.rglob("*") if path.is_file() and not _is_scratch(path))
    return {path.relative_to(root).as_posix(): path for path in found}


def _is_scratch(path: Path) -> bool:
    """Whether a process died while it wrote this file."""
    return path.name.startswith(".") and path.name.endswith(".partial")


def forget(folder: Path) -> None:
    """Remove what was told, the run's state first: what is left over is not told again."""
    (folder / _STATE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


class OfflineStore:
    """A ``RunStore`` for the one run of an output folder.

    Args:
        folder: Where it waits.
        uri: The server that it is meant for.
        run_id: The run that the output folder belongs to; None before there is one.
        kept: Artifacts of that run that are known here, by path: records of earlier attempts.
    """

    def __init__(
        self, folder: Path, *, uri: str, run_id: str | None, kept: Mapping[str, bytes]
    ) -> None:
        self.folder = folder
        self._uri = uri
        self._kept = kept
        self._lock = threading.RLock()
        self._run = OfflineRun.read(folder)
        if self._run is None and run_id is not None:
            self._run = OfflineRun(run_id=run_id, tracking_uri=uri, tags={"mmrun.format": "1"})

    @property
    def uri(self) -> str:
        """The URI of the server that the run is meant for."""
        return self._uri

    @property
    def unknown(self) -> bool:
        """Whether no server has the run, so that all there is of it is here."""
        return self._run is None or self._run.unknown

    def ping(self) -> None:
        """This disk answers."""

    def create(
        self,
        *,
        experiment: str,
        name: str | None,
        tags: Mapping[str, str],
        experiment_id: str | None = None,
        started_ms: int | None = None,
    ) -> Run:
        """Begin a run under an id of its own; the experiment is made when it is sent.

        MLFLOW_EXPERIMENT_ID and _NAME win over ``experiment``, as they do with a server.
        """
        if experiment_id is not None:
            raise _refused("a run in an experiment that is named by its id")
        with self._lock:
            self._run = OfflineRun(
                run_id=uuid.uuid4().hex,
                tracking_uri=self._uri,
                experiment=os.environ.get("MLFLOW_EXPERIMENT_NAME") or experiment,
                experiment_id=os.environ.get("MLFLOW_EXPERIMENT_ID", ""),
                name=name,
                unknown=True,
                started_ms=started_ms or _now_ms(),
                status="RUNNING",
                tags=dict(tags),
            )
            self._run.write(self.folder)
        return self.read(self._run.run_id)

    def read(self, run_id: str) -> Run:
        """Return the run of this folder; nothing is known of others."""
        run = self._run
        if run is None or run.run_id != run_id:
            raise TrackingError(
                f"run {run_id} is not the one of this output folder, and {_NOT_ASKED}",
                hint="leave --offline out, or give the --output_dir of that run",
            )
        return Run(
            run_id=run.run_id,
            experiment_id="",
            name=run.name or "",
            status=run.status or "RUNNING",
            tags=dict(run.tags),
            params=dict(run.params),
        )

    def experiments(self) -> list[RecordedExperiment]:
        """Return nothing: no experiment is known."""
        return []

    def find(self, *, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:  # noqa: ARG002
        """Return nothing: no other run is known."""
        return []

    def set_status(self, run_id: str, status: RunStatus, *, ended_ms: int | None = None) -> None:
        """Keep the status, and when it became a final one."""
        ended_ms = (ended_ms or _now_ms()) if status in _FINAL else None
        self._change(run_id, status=status, ended_ms=ended_ms)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Keep tags, replacing those of the same name."""
        with self._lock:
            self._change(run_id, tags={**self.read(run_id).tags, **tags})

    def claim_param(self, run_id: str, key: str, value: str) -> bool:
        """Keep one parameter; False if it is already there with another value."""
        with self._lock:
            params = self.read(run_id).params
            if params.get(key, value) != value:
                return False
            self._change(run_id, params={**params, key: value})
            return True

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Keep parameters that are new or have the same value."""
        with self._lock:
            known = self.read(run_id).params
            for key, value in params.items():
                if known.get(key, value) != value:
                    raise TrackingError(f"the parameter {key!r} was logged with {known[key]!r}")
            self._change(run_id, params={**known, **params})

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:  # noqa: ARG002
        """Refuse them: they wait in the journal."""
        raise UnreachableError(_NOT_ASKED)

    def history(self, run_id: str, key: str) -> list[Point]:  # noqa: ARG002
        """Return nothing: what is known here is in the journal."""
        return []

    def between(self, run_id: str, key: str, *, first: int, last: int) -> list[Point]:  # noqa: ARG002
        """Return nothing: what is known here is in the journal."""
        return []

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], *, path: str) -> None:  # noqa: ARG002
        """Refuse it: only trainings go on offline."""
        raise _refused(f"the table {path}")

    def delete(self, run_id: str) -> None:  # noqa: ARG002
        """Refuse it: there is no other run than the one of this folder."""
        raise _refused("the removal of a run")

    def artifacts(self, run_id: str) -> "OfflineArtifacts":
        """Return the run's artifacts, as far as they are here."""
        self.read(run_id)
        return OfflineArtifacts(self.folder / _ARTIFACTS, kept=self._kept)

    def _change(self, run_id: str, **changed: object) -> None:
        with self._lock:
            self.read(run_id)
            if self._run is not None:
                self._run = replace(self._run, **changed)  # type: ignore[arg-type]
                self._run.write(self.folder)


class OfflineArtifacts:
    """The small artifacts of a run that wait on this disk, above those that are known of it."""

    def __init__(self, root: Path, *, kept: Mapping[str, bytes]) -> None:
        self._root = root
        self._kept = kept

    def list(self, folder: str = "") -> list[Artifact]:
        """Return what lies directly in ``folder``; checkpoints are elsewhere, so nobody can say."""
        _refuse_checkpoints(folder)
        prefix = f"{checked_folder(folder)}/" if folder else ""
        sizes = {path: len(content) for path, content in self._kept.items()}
        sizes |= {path: file.stat().st_size for path, file in self._files().items()}
        below = {p.removeprefix(prefix): s for p, s in sizes.items() if p.startswith(prefix)}
        folders = sorted({path.partition("/")[0] for path in below if "/" in path})
        return [
            *(Artifact(path=prefix + name, is_folder=True, size=None) for name in folders),
            *(
                Artifact(path=prefix + name, is_folder=False, size=size)
                for name, size in sorted(below.items())
                if "/" not in name
            ),
        ]

    def upload(self, file: Path, *, to: str) -> None:
        """Keep ``file`` in the folder ``to`` under its own name, whole or not at all."""
        path = checked(f"{to}/{file.name}" if to else file.name)
        _refuse_checkpoints(path)
        if not file.is_file():
            raise TrackingError(f"cannot upload {file}: there is no such file")
        target = self._root / path
        scratch = target.with_name(f".{target.name}.partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, scratch)  # no link: what is uploaded stays as it is now
        scratch.replace(target)

    def download(self, path: str, *, to: Path) -> None:
        """Write the artifact ``path`` to the file ``to``, whole or not at all."""
        content = self.read(path)
        if content is None:
            raise TrackingError(f"the run has no artifact {path!r} here")
        files.write_whole(to, content)

    def read(self, path: str) -> bytes | None:
        """Return the content of one artifact, or None when it does not exist."""
        _refuse_checkpoints(path)
        try:
            return (self._root / checked(path)).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return self._kept.get(path)

    def write(self, path: str, content: bytes) -> None:
        """Keep one small artifact, replacing an earlier one whole."""
        _refuse_checkpoints(path)
        files.write_whole(self._root / checked(path), content)

    def delete(self, path: str) -> None:
        """Forget a file or a folder that waits."""
        target = self._root / checked(path)
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)

    def _files(self) -> Mapping[str, Path]:
        return waiting_artifacts(self._root.parent)


def _refuse_checkpoints(path: str) -> None:
    if path.partition("/")[0] == _CHECKPOINTS:
        raise UnreachableError(
            f"the checkpoints in the store are not known: {_NOT_ASKED}",
            hint="leave --offline out when the server answers",
        )


def _refused(what: str) -> TrackingError:
    return TrackingError(f"{what} cannot be recorded: {_NOT_ASKED}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
