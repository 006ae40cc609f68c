"""A project whose runs are recorded in PostgreSQL, most often by a server in front of it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.postgres import Postgres
from tests.recovery.project import Done, Project, RunRow


@dataclass(frozen=True)
class Database:
    """A database of a PostgreSQL server."""

    server: Postgres
    name: str

    @property
    def uri(self) -> str:
        """The address, the password in it."""
        return self.server.uri(self.name)

    def rows(self, query: str, *values: object) -> list[Any]:
        """Return what is stored, whatever a client would make of it."""
        return self.server.rows(self.name, query, *values)


class Served(Project):
    """A project whose commands find the server, in an experiment of its own."""

    def __init__(
        self,
        project: Project,
        database: Database,
        environment: Mapping[str, str],
        *,
        files: Path | None = None,
    ) -> None:
        """``files`` is where the server keeps artifacts, if that is a folder."""
        super().__init__(project.folder)
        self._files = files
        self._database = database
        self._experiment = f"experiment-{uuid.uuid4().hex[:8]}"
        self.environment = {"MLFLOW_EXPERIMENT_NAME": self._experiment, **environment}

    def command(self, words: Sequence[str], **environment: str) -> Done:
        """Run any program in the folder, whatever its exit code."""
        return super().command(words, **{**self.environment, **environment})

    def runs(self) -> Sequence[RunRow]:
        """Return every run of the experiment that is not deleted."""
        rows = self._database.rows(
            "SELECT run_uuid, status FROM runs JOIN experiments USING (experiment_id)"
            " WHERE experiments.name = %s AND runs.lifecycle_stage = 'active'",
            self._experiment,
        )
        return [
            RunRow(
                run_id=run_id,
                status=status,
                tags=dict(self._of_run("SELECT key, value FROM tags", run_id)),
                params=dict(self._of_run("SELECT key, value FROM params", run_id)),
            )
            for run_id, status in rows
        ]

    @property
    def points(self) -> Sequence[tuple[str, int, float]]:
        """Every metric point of the run, as often as it is stored."""
        rows = self._of_run("SELECT key, step, value FROM metrics", self.run.run_id)
        return sorted(tuple(row) for row in rows)

    def dump(self) -> bytes:
        """Return everything that the database holds, as text."""
        return self._database.server.dump(self._database.name)

    def artifact(self, path: str) -> Path:
        """Return where the server keeps an artifact of the run."""
        uri: str
        ((uri,),) = self._of_run("SELECT artifact_uri FROM runs", self.run.run_id)
        assert self._files is not None, uri
        return self._files / uri.removeprefix("mlflow-artifacts:/") / path

    def _of_run(self, query: str, run_id: str) -> list[Any]:
        return self._database.rows(f"{query} WHERE run_uuid = %s", run_id)
