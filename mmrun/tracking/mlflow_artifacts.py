"""The files of a run in MLflow, through its artifact repositories."""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

import mlflow.entities
import requests
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from mmrun.errors import DiskFullError, TrackingError
from mmrun.files import is_full
from mmrun.tracking.artifact_path import checked, checked_folder
from mmrun.tracking.mlflow_connection import QUIET, first_line
from mmrun.tracking.store import Artifact, UnreachableError

__all__ = ["ROOT_TAG", "MlflowArtifacts", "local_root"]

Answer = TypeVar("Answer")

ROOT_TAG = "mmrun.artifacts"
"""Names the local folder that holds a run's artifacts, once there is one."""
_TRANSFER_TIMEOUT_S = 600
"""A server in front of S3 answers an upload only after it has passed the whole file on."""


class Repository(Protocol):
    """What is used of MLflow's artifact repositories, which are not typed."""

    def list_artifacts(self, path: str | None) -> list[mlflow.entities.FileInfo]: ...
    def log_artifact(self, local_file: str, artifact_path: str | None) -> None: ...
    def download_artifacts(self, artifact_path: str, dst_path: str) -> str: ...
    def delete_artifacts(self, artifact_path: str) -> None: ...


class Owner(Protocol):
    """The store of the run that has the files."""

    def ask(self, call: Callable[[], Answer], /) -> Answer: ...
    def raw(self, run_id: str, /) -> mlflow.entities.Run: ...
    def set_tags(self, run_id: str, tags: Mapping[str, str], /) -> None: ...
    def artifact_uri(self, run_id: str, /) -> str: ...
    def repository(self, artifact_uri: str, /) -> Repository: ...


class _AbsentError(TrackingError):
    """The store answers, and has no such artifact."""


class MlflowArtifacts:
    """The files of one run, in whatever store the run's experiment has."""

    def __init__(self, store: Owner, run_id: str) -> None:
        self._store = store
        self._run_id = run_id

    def list(self, folder: str = "") -> list[Artifact]:
        """Return what lies directly in ``folder``; an absent folder is empty."""
        checked_folder(folder)
        self._refuse_missing_root()
        found = self._store.ask(lambda: self._repository.list_artifacts(folder or None))
        return [
            Artifact(
                path=entry.path,
                is_folder=entry.is_dir,
                size=None if entry.is_dir else entry.file_size,
            )
            for entry in found
        ]

    def upload(self, file: Path, *, to: str) -> None:
        """Store ``file`` in the folder ``to`` under its own name, whole or not at all."""
        checked(f"{to}/{file.name}" if to else file.name)
        if not file.is_file():
            raise TrackingError(f"cannot upload {file}: there is no such file")
        first = self._root is not None and not self._root.is_dir()
        with _long_timeout():
            self._store.ask(lambda: self._repository.log_artifact(str(file), to or None))
        if first:
            self._store.set_tags(self._run_id, {ROOT_TAG: str(self._root)})

    def download(self, path: str, *, to: Path) -> None:
        """Write the artifact ``path`` to the file ``to``, whole or not at all."""
        checked(path)
        repository = self._repository
        with _room_in(to.parent):
            to.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as scratch:
                with _long_timeout():
                    self._store.ask(lambda: self._fetch(repository, path, scratch=Path(scratch)))
                Path(scratch, path).replace(to)

    def read(self, path: str) -> bytes | None:
        """Return the content of one small artifact, or None when it does not exist."""
        if not self._holds(path):
            return None
        with _scratch() as scratch:
            try:
                self.download(path, to=scratch / "content")
            except _AbsentError:  # it went away since it was listed
                return None
            return (scratch / "content").read_bytes()

    def write(self, path: str, content: bytes) -> None:
        """Store one small artifact, replacing an earlier one whole."""
        folder, _, name = checked(path).rpartition("/")
        with _scratch() as scratch:
            (scratch / name).write_bytes(content)
            self.upload(scratch / name, to=folder)

    def delete(self, path: str) -> None:
        """Remove a file or a folder; refuses a path that leaves the run."""
        checked(path)  # MLflow itself does not look for '..' here
        if type(self._repository).delete_artifacts is ArtifactRepository.delete_artifacts:
            raise TrackingError(
                f"the artifact store of run {self._run_id} cannot delete files",
                hint="nothing was removed; delete what is too much with the tools of that store",
            )
        self._store.ask(lambda: self._repository.delete_artifacts(path))

    @cached_property
    def _repository(self) -> Repository:
        uri = self._store.artifact_uri(self._run_id)
        return self._store.ask(lambda: self._store.repository(uri))

    @cached_property
    def _root(self) -> Path | None:
        return local_root(self._store.artifact_uri(self._run_id))

    def _refuse_missing_root(self) -> None:
        """Tell "no artifacts yet" from "they lie on another machine's disk"."""
        if self._root is None or self._root.is_dir():
            return
        if ROOT_TAG in self._store.raw(self._run_id).data.tags:
            raise UnreachableError(
                f"the artifacts of run {self._run_id} lie in {self._root}, which is not there",
                hint="work on the machine that has the folder, or mount it under the same path",
            )

    def _holds(self, path: str) -> bool:
        folder = checked(path).rpartition("/")[0]
        return any(entry.path == path and not entry.is_folder for entry in self.list(folder))

    def _fetch(self, repository: Repository, path: str, *, scratch: Path) -> None:
        try:
            repository.download_artifacts(path, str(scratch))
        except Exception as error:
            if is_full(error):
                raise _no_room(scratch.parent) from error
            if not self._holds(path):
                raise _AbsentError(f"run {self._run_id} has no artifact {path!r}") from error
            if self._root is None:  # MLflow does not say which failures may pass
                raise requests.ConnectionError(first_line(error)) from error
            raise


@contextmanager
def _scratch() -> Iterator[Path]:
    """Yield a folder for one small artifact on its way."""
    with (
        _room_in(Path(tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix="mmrun-") as scratch,
    ):
        yield Path(scratch)


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """Tell a disk that is full on this machine from a store that refuses."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise _no_room(folder) from error
        raise


def _no_room(folder: Path) -> DiskFullError:
    return DiskFullError(
        f"{folder} has no room for what is fetched from the store: the disk is full",
        hint="make room on the disk, then run the same command again",
    )


_transfers = 0
_transfers_lock = threading.Lock()
_usual_timeout = ""


@contextmanager
def _long_timeout() -> Iterator[None]:
    """Give requests time while a file is on its way; MLflow's setting is one per process."""
    global _transfers, _usual_timeout  # noqa: PLW0603 (so is the environment)
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    with _transfers_lock:
        _transfers += 1
        if _transfers == 1:
            _usual_timeout = os.environ.get(name, QUIET[name])
            os.environ[name] = str(max(int(_usual_timeout), _TRANSFER_TIMEOUT_S))
    try:
        yield
    finally:
        with _transfers_lock:
            _transfers -= 1
            if _transfers == 0:
                os.environ[name] = _usual_timeout


def local_root(artifact_uri: str) -> Path | None:
    """Return the folder of a ``file:`` URI or a plain path, else None."""
    parts = urlsplit(artifact_uri)
    if parts.scheme not in {"", "file"}:
        return None
    return Path(unquote(parts.path) if parts.scheme else artifact_uri)
