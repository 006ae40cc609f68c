"""Runs in MLflow, through ``MlflowClient`` with explicit run and experiment ids.

Only the modules ``mlflow_*`` import MLflow. They set MLflow's own environment variables where the
user did not, when the first store is opened: MLflow reads them at each call.
"""

import getpass
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import mlflow.entities
from mlflow.entities import ViewType
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mmrun.errors import TrackingError
from mmrun.tracking.address import is_database, sqlite_file, tracking_uri
from mmrun.tracking.mlflow_artifacts import ROOT_TAG, MlflowArtifacts, Repository, local_root
from mmrun.tracking.mlflow_connection import Connection, Server, code
from mmrun.tracking.mlflow_history import between, history, newest
from mmrun.tracking.store import Point, RecordedExperiment, Run, RunStatus, UnreachableError

__all__ = ["MlflowStore", "Repository", "tracking_uri"]

Answer = TypeVar("Answer")

_PARAM_LIMIT = 6000
_TAG_LIMIT = 8000
_KIND_TAG = "mlflow.experimentKind"
"""Tells MLflow's page to show the experiment as model training, not as conversations."""


class MlflowStore:
    """A ``RunStore`` on an MLflow tracking server or database."""

    def __init__(self, uri: str, *, patience_s: float = 15.0) -> None:
        """Open the store; a new SQLite database is made first.

        A server that does not answer is asked again for ``patience_s`` before it counts as
        unreachable.
        """
        self._connection = Connection(uri, patience_s=patience_s)
        self._client = self._connection.client
        self._shown = self._connection.shown
        self._artifact_uris: dict[str, str] = {}

    @property
    def uri(self) -> str:
        """The tracking URI, absolute, without secrets."""
        return self._shown

    def ping(self) -> None:
        """Ask for almost nothing, to see whether the store answers."""
        self.ask(lambda: self._client.search_experiments(max_results=1))

    def server(self) -> Server | None:
        """Return what answers over HTTP; None where the store is a database without a server."""
        return self._connection.server()

    def experiments(self, *, deleted: bool = False) -> list[RecordedExperiment]:
        """Return the experiments that are not deleted, or those that are."""
        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        found: list[RecordedExperiment] = []
        token: str | None = None
        while True:
            page = self.ask(
                lambda token=token: self._client.search_experiments(view, page_token=token)  # type: ignore[misc]
            )
            found += [
                RecordedExperiment(
                    experiment_id=str(one.experiment_id),
                    name=one.name,
                    artifact_location=one.artifact_location,
                )
                for one in page
            ]
            token = page.token
            if not token:
                return found

    def create(
        self,
        *,
        experiment: str,
        name: str | None,
        tags: Mapping[str, str],
        experiment_id: str | None = None,
        started_ms: int | None = None,
    ) -> Run:
        """Open a new run; MLFLOW_EXPERIMENT_ID and _NAME win over ``experiment``.

        ``experiment_id`` wins over all of them: a child belongs where its parent is.
        ``started_ms`` is for a run that began before the store was told.
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
            lambda: self._client.create_run(
                experiment_id, start_time=started_ms, run_name=name, tags=described
            ),
            patience_s=0,
        )
        root = local_root(run.info.artifact_uri)
        if root is not None:
            _make(root)
            self.set_tags(run.info.run_id, {ROOT_TAG: str(root)})
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

    def set_status(self, run_id: str, status: RunStatus, *, ended_ms: int | None = None) -> None:
        """Set the status, and the end time where it is a final one: now, if it is not given."""
        if status in {"RUNNING", "SCHEDULED"}:
            self.ask(lambda: self._client.update_run(run_id, status=status))
        else:
            self.ask(lambda: self._client.set_terminated(run_id, status, ended_ms))

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
        return history(self._connection, run_id, key)

    def between(self, run_id: str, key: str, *, first: int, last: int) -> list[Point]:
        """Return every stored point of one metric at the steps from ``first`` to ``last``."""
        return between(self._connection, run_id, key, first=first, last=last)

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

    def artifacts(self, run_id: str) -> MlflowArtifacts:
        """Return the run's artifacts; the server is first asked when they are used."""
        return MlflowArtifacts(self, run_id)

    def raw(self, run_id: str) -> mlflow.entities.Run:
        """Return MLflow's record of a run, deleted or not."""
        try:
            run = self.ask(lambda: self._client.get_run(run_id))
        except UnreachableError:
            raise
        except TrackingError as error:
            if code(error.__cause__) in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
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
        return cast(
            "Repository", get_artifact_repository(artifact_uri, tracking_uri=self._connection.uri)
        )

    def ask(self, call: Callable[[], Answer], *, patience_s: float | None = None) -> Answer:
        """Return the answer of ``call``, asking again while the server may come back."""
        return self._connection.ask(call, patience_s=patience_s)

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

    def _folder_of_artifacts(self) -> Path | None:
        """Return where a new experiment keeps its files, where no server decides that."""
        file = sqlite_file(self._connection.uri)
        if file is not None:
            return file.parent / "mlartifacts"
        return Path.cwd() / "mlartifacts" if is_database(self._connection.uri) else None

    def _created_experiment(self, name: str) -> mlflow.entities.Experiment:
        folder = self._folder_of_artifacts()
        root = None if folder is None else folder.as_uri()
        try:
            self.ask(
                lambda: self._client.create_experiment(
                    name, artifact_location=root, tags={_KIND_TAG: "custom_model_development"}
                )
            )
        except TrackingError as error:
            if code(error.__cause__) != "RESOURCE_ALREADY_EXISTS":  # else another was faster
                raise
        return cast(
            "mlflow.entities.Experiment",
            self.ask(lambda: self._client.get_experiment_by_name(name)),
        )


def _run(run: mlflow.entities.Run) -> Run:
    return Run(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name or "",
        status=cast("RunStatus", run.info.status),
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        newest=newest(run),
        started_ms=run.info.start_time,
        ended_ms=run.info.end_time,
    )


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
