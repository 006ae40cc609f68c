"""Runs and artifacts in MLflow, through ``MlflowClient`` with explicit run and experiment ids.

The only module that imports MLflow. It sets MLflow's own environment variables where the user
did not, when the first store is opened: MLflow reads them at each call.
"""

import getpass
import json
import logging
import math
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar, cast
from urllib.parse import unquote, urlsplit

import mlflow.entities
import requests
import urllib3
from filelock import FileLock
from mlflow.exceptions import InvalidUrlException, MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_exponential

from mmrun import faults
from mmrun.config.masking import hidden, remember, without_secrets
from mmrun.errors import DiskFullError, MmrunError, TrackingError
from mmrun.files import is_full
from mmrun.tracking.address import split_login, sqlite_file, tracking_uri, with_sqlite_file
from mmrun.tracking.artifact_path import checked, checked_folder
from mmrun.tracking.store import Artifact, Point, Run, RunStatus, UnreachableError

__all__ = ["MlflowStore", "tracking_uri"]

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_PARAM_LIMIT = 6000
_TAG_LIMIT = 8000
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # this module tries again; MLflow would for 4 minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_TRANSFER_TIMEOUT_S = 600
"""A server in front of S3 answers an upload only after it has passed the whole file on."""
_ROOT_TAG = "mmrun.artifacts"
"""Names the local folder that holds a run's artifacts, once there is one."""
_KIND_TAG = "mlflow.experimentKind"
"""Tells MLflow's page to show the experiment as model training, not as conversations."""


class Repository(Protocol):
    """What is used of MLflow's artifact repositories, which are not typed."""

    def list_artifacts(self, path: str | None) -> list[mlflow.entities.FileInfo]: ...
    def log_artifact(self, local_file: str, artifact_path: str | None) -> None: ...
    def download_artifacts(self, artifact_path: str, dst_path: str) -> str: ...
    def delete_artifacts(self, artifact_path: str) -> None: ...


class MlflowStore:
    """A ``RunStore`` on an MLflow tracking server or database."""

    def __init__(self, uri: str, *, patience_s: float = 15.0) -> None:
        """Open the store; a new SQLite database is made first.

        A server that does not answer is asked again for ``patience_s`` before it counts as
        unreachable.
        """
        remember({"uri": uri})
        bare, user, password = split_login(uri)
        _prepare_mlflow(user=user, password=password)
        self._uri = bare
        self._shown = without_secrets(bare)
        self._patience_s = patience_s
        self._artifact_uris: dict[str, str] = {}
        self._client = self._opened()

    @property
    def uri(self) -> str:
        """The tracking URI, absolute, without secrets."""
        return self._shown

    def ping(self) -> None:
        """Ask for almost nothing, to see whether the store answers."""
        self.ask(lambda: self._client.search_experiments(max_results=1))

    def create(
        self,
        *,
        experiment: str,
        name: str | None,
        tags: Mapping[str, str],
        experiment_id: str | None = None,
    ) -> Run:
        """Open a new run; MLFLOW_EXPERIMENT_ID and _NAME win over ``experiment``.

        ``experiment_id`` wins over all of them: a child belongs where its parent is.
        """
        experiment_id = experiment_id or self._experiment_id(experiment)
        described = {
            "mlflow.user": _user(),
            "mlflow.source.name": "mmrun",
            "mlflow.source.type": "LOCAL",
            **_cut(tags, limit=_TAG_LIMIT),
        }
        # Not asked twice: an answer that was lost on its way would leave a second run behind.
        run = self.ask(
            lambda: self._client.create_run(experiment_id, run_name=name, tags=described),
            patience_s=0,
        )
        root = _local_root(run.info.artifact_uri)
        if root is not None:
            _make(root)
            self.set_tags(run.info.run_id, {_ROOT_TAG: str(root)})
        return self.read(run.info.run_id)

    def read(self, run_id: str) -> Run:
        """Return a run; an unknown or deleted one is a ``TrackingError`` that names it."""
        run = self.raw(run_id)
        if run.info.lifecycle_stage != "active":
            raise TrackingError(
                f"run {run_id} was deleted from {self._shown}",
                hint=f"bring it back with 'mlflow runs restore --run-id {run_id}'",
            )
        return _run(run)

    def find(self, *, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
        """Return the active runs of an experiment that have all of ``tags``, newest first."""
        condition = " and ".join(
            f"tags.`{key}` = '{value}'" for key, value in tags.items() if "'" not in value
        )
        found: list[Run] = []
        token: str | None = None
        while True:
            page = self.ask(
                lambda token=token: self._client.search_runs(  # type: ignore[misc]
                    [experiment_id],
                    condition,
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
            )
            found += [_run(run) for run in page]
            token = page.token
            if not token:
                break
        return [run for run in found if tags.items() <= run.tags.items()]

    def set_status(self, run_id: str, status: RunStatus) -> None:
        """Set the status, and the end time where it is a final one."""
        if status in {"RUNNING", "SCHEDULED"}:
            self.ask(lambda: self._client.update_run(run_id, status=status))
        else:
            self.ask(lambda: self._client.set_terminated(run_id, status=status))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags, replacing those of the same name; a value is cut at MLflow's limit."""
        entities = [
            mlflow.entities.RunTag(key, value)
            for key, value in _cut(tags, limit=_TAG_LIMIT).items()
        ]
        self.ask(lambda: self._client.log_batch(run_id, tags=entities))

    def claim_param(self, run_id: str, key: str, value: str) -> bool:
        """Log one parameter; False if it is already there with another value."""
        try:
            self.ask(lambda: self._client.log_param(run_id, key, value, synchronous=True))
        except UnreachableError:
            raise
        except TrackingError:
            if self.read(run_id).params.get(key, value) == value:
                raise
            return False
        return True

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters that are new or have the same value; a value is cut at MLflow's limit."""
        entities = [
            mlflow.entities.Param(key, value)
            for key, value in _cut(params, limit=_PARAM_LIMIT).items()
        ]
        self.ask(lambda: self._client.log_batch(run_id, params=entities))

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Store points in batches; who sends them tries again, so a dead server fails at once."""
        entities = [
            mlflow.entities.Metric(point.key, point.value, point.timestamp_ms, point.step)
            for point in points
        ]
        self.ask(lambda: self._client.log_batch(run_id, metrics=entities), patience_s=0)

    def history(self, run_id: str, key: str) -> list[Point]:
        """Return every stored point of one metric, by step and then time."""
        stored = self.ask(lambda: self._client.get_metric_history(run_id, key))
        points = [
            Point(key=key, step=m.step, timestamp_ms=m.timestamp, value=m.value) for m in stored
        ]
        return sorted(points, key=lambda point: (point.step, point.timestamp_ms))

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], *, path: str) -> None:
        """Store a table as MLflow's page reads it, replacing an earlier one whole."""
        rows = [[_plain(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
        content = json.dumps({"columns": list(columns), "data": rows}, ensure_ascii=False)
        self.artifacts(run_id).write(path, content.encode())
        tables = json.loads(self.read(run_id).tags.get("mlflow.loggedArtifacts", "[]"))
        entry = {"path": path, "type": "table"}
        if entry not in tables:
            self.set_tags(run_id, {"mlflow.loggedArtifacts": json.dumps([*tables, entry])})

    def delete(self, run_id: str) -> None:
        """Remove a run from the lists (it can be restored)."""
        self.ask(lambda: self._client.delete_run(run_id))

    def restore(self, run_id: str) -> None:
        """Bring a deleted run back into the lists."""
        self.ask(lambda: self._client.restore_run(run_id))

    def artifacts(self, run_id: str) -> "MlflowArtifacts":
        """Return the run's artifacts; the server is first asked when they are used."""
        return MlflowArtifacts(self, run_id)

    def raw(self, run_id: str) -> mlflow.entities.Run:
        """Return MLflow's record of a run, deleted or not."""
        try:
            run = self.ask(lambda: self._client.get_run(run_id))
        except UnreachableError:
            raise
        except TrackingError as error:
            if _code(error.__cause__) in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise TrackingError(
                    f"there is no run {run_id!r} at {self._shown}",
                    hint="check the run id and MLFLOW_TRACKING_URI",
                ) from error
            raise
        self._artifact_uris[run_id] = run.info.artifact_uri
        return run

    def artifact_uri(self, run_id: str) -> str:
        """Return where a run's artifacts are; that never changes, so it is asked once."""
        if run_id not in self._artifact_uris:
            self.raw(run_id)
        return self._artifact_uris[run_id]

    def repository(self, artifact_uri: str) -> Repository:
        """Return MLflow's access to the artifacts at ``artifact_uri``."""
        return cast("Repository", get_artifact_repository(artifact_uri, tracking_uri=self._uri))

    def ask(self, call: Callable[[], Answer], *, patience_s: float | None = None) -> Answer:
        """Return the answer of ``call``, asking again while the server may come back."""
        patience_s = self._patience_s if patience_s is None else patience_s
        trials = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_before_delay(patience_s),
            wait=wait_exponential(multiplier=0.25, max=4),
            reraise=True,
        )
        try:
            return trials(call)
        except MmrunError:
            raise
        except Exception as error:  # each store and proxy has errors of its own
            raise self._translated(error) from error

    def _opened(self) -> MlflowClient:
        file = sqlite_file(self._uri)
        if file is None:
            self._knock()
            return self.ask(lambda: MlflowClient(self._uri))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f".{file.name}.lock")):
                if not file.exists():
                    self._make_database(file)
                return self.ask(lambda: MlflowClient(self._uri))
        except OSError as error:
            raise TrackingError(
                f"cannot open {self._shown}: {error}",
                hint="set MLFLOW_TRACKING_URI to a place that can be written",
            ) from error

    def _make_database(self, file: Path) -> None:
        """Make the tables in a file beside: MLflow cannot open one whose maker died half-way."""
        made = file.with_name(f".{file.name}.new")
        made.unlink(missing_ok=True)
        self.ask(lambda: MlflowClient(with_sqlite_file(self._uri, made)))
        faults.reach("database.made")
        made.replace(file)

    def _knock(self) -> None:
        """Refuse a database server that is down at once; MLflow would try for minutes."""
        parts = urlsplit(self._uri)
        if parts.scheme.partition("+")[0] not in {"postgresql", "mysql", "mssql"}:
            return
        if parts.hostname is None or parts.port is None:
            return
        address = (parts.hostname, parts.port)
        try:
            socket.create_connection(address, timeout=self._patience_s or 1).close()
        except OSError as error:
            raise self._unreachable(error) from error

    def _experiment_id(self, name: str) -> str:
        given = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if given:
            return given
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
        found = self.ask(lambda: self._client.get_experiment_by_name(name))
        if found is None:
            found = self._created_experiment(name)
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"the experiment {name!r} was deleted from {self._shown}",
                hint="bring it back with 'mlflow experiments restore --experiment-id "
                f"{found.experiment_id}', or choose another name",
            )
        return str(found.experiment_id)

    def _created_experiment(self, name: str) -> mlflow.entities.Experiment:
        file = sqlite_file(self._uri)
        root = None if file is None else (file.parent / "mlartifacts").as_uri()
        try:
            self.ask(
                lambda: self._client.create_experiment(
                    name, artifact_location=root, tags={_KIND_TAG: "custom_model_development"}
                )
            )
        except TrackingError as error:
            if _code(error.__cause__) != "RESOURCE_ALREADY_EXISTS":  # else another was faster
                raise
        return cast(
            "mlflow.entities.Experiment",
            self.ask(lambda: self._client.get_experiment_by_name(name)),
        )

    def _translated(self, error: Exception) -> TrackingError:
        if _may_pass(error):
            return self._unreachable(error)
        reason = hidden(str(error).partition("\n")[0])
        if _status(error) in {401, 403}:
            return TrackingError(
                f"{self._shown} refused the request: {reason}",
                hint="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for 'Invalid Host "
                "header' start the server with --allowed-hosts",
            )
        if "maintenance mode" in reason:
            return TrackingError(
                f"MLflow no longer keeps runs in plain folders: {self._shown}",
                hint="use a database, such as MLFLOW_TRACKING_URI=sqlite:///mlflow.db",
            )
        if reason.startswith("API request to endpoint") or "unsupported URI" in reason:
            return TrackingError(
                f"{self._shown} is not an MLflow tracking server: {reason.strip()[:200]}",
                hint="check MLFLOW_TRACKING_URI, or tracking.uri in the experiment file",
            )
        return TrackingError(f"the tracking store {self._shown} refused: {reason}")

    def _unreachable(self, error: BaseException) -> UnreachableError:
        root = [error, *_beneath(error)][-1]
        return UnreachableError(
            f"the tracking server at {self._shown} does not answer: {_first_line(root)}",
            hint="start the server, or set MLFLOW_TRACKING_URI to one that runs",
        )


class _AbsentError(TrackingError):
    """The store answers, and has no such artifact."""


class MlflowArtifacts:
    """The files of one run, in whatever store the run's experiment has."""

    def __init__(self, store: MlflowStore, run_id: str) -> None:
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
            self._store.set_tags(self._run_id, {_ROOT_TAG: str(self._root)})

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
        return _local_root(self._store.artifact_uri(self._run_id))

    def _refuse_missing_root(self) -> None:
        """Tell "no artifacts yet" from "they lie on another machine's disk"."""
        if self._root is None or self._root.is_dir():
            return
        if _ROOT_TAG in self._store.raw(self._run_id).data.tags:
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
                raise requests.ConnectionError(_first_line(error)) from error
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
            _usual_timeout = os.environ.get(name, _QUIET[name])
            os.environ[name] = str(max(int(_usual_timeout), _TRANSFER_TIMEOUT_S))
    try:
        yield
    finally:
        with _transfers_lock:
            _transfers -= 1
            if _transfers == 0:
                os.environ[name] = _usual_timeout


def _prepare_mlflow(*, user: str | None, password: str | None) -> None:
    """Quieten MLflow, and hand it the login of a URI through its own variables."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if user:
        os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password or "")
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)


def _run(run: mlflow.entities.Run) -> Run:
    return Run(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name or "",
        status=cast("RunStatus", run.info.status),
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
    )


def _may_pass(error: BaseException) -> bool:
    """Tell a server that is away or overloaded from one that says no."""
    if isinstance(error, requests.HTTPError):
        return _status(error) in _PASSING
    if isinstance(error, requests.RequestException):
        return True
    if isinstance(error, InvalidUrlException) or not isinstance(error, MlflowException):
        return False
    return _code(error) == "TEMPORARILY_UNAVAILABLE" or any(
        isinstance(under, requests.RequestException | urllib3.exceptions.HTTPError)
        for under in _beneath(error)
    )


def _beneath(error: BaseException) -> Iterator[BaseException]:
    """Yield what led to ``error``, the nearest first; MLflow wraps some failures twice."""
    while (under := error.__cause__ or error.__context__) is not None:
        yield under
        error = under


def _code(error: BaseException | None) -> str | None:
    return error.error_code if isinstance(error, MlflowException) else None


def _status(error: BaseException) -> int | None:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    if not isinstance(error, MlflowException):
        return None
    return cast("int", error.get_http_status_code())  # type: ignore[no-untyped-call]


def _first_line(error: BaseException) -> str:
    return hidden(str(error).strip().partition("\n")[0]) or type(error).__name__


def _local_root(artifact_uri: str) -> Path | None:
    """Return the folder of a ``file:`` URI or a plain path, else None."""
    parts = urlsplit(artifact_uri)
    if parts.scheme not in {"", "file"}:
        return None
    return Path(unquote(parts.path) if parts.scheme else artifact_uri)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrackingError(f"cannot make the artifact folder {folder}: {error}") from error


def _cut(values: Mapping[str, str], *, limit: int) -> dict[str, str]:
    return {
        key: value if len(value) <= limit else f"{value[: limit - 3]}..."
        for key, value in values.items()
    }


def _plain(cell: object) -> object:
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if isinstance(cell, str | int | float | bool | None) else str(cell)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return str(os.getuid())
