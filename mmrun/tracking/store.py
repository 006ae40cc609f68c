"""What mmrun needs from a tracking server: runs, points of metrics, artifacts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from mmrun.errors import TrackingError

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


class UnreachableError(TrackingError):
    """The store did not answer: nothing is known about what it holds, and asking later may help."""


class Point(NamedTuple):
    """One value of one metric. Sending the same point twice stores it once."""

    key: str
    step: int
    timestamp_ms: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A recorded run, as it was when it was read."""

    run_id: str
    experiment_id: str
    name: str
    status: RunStatus
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    newest: Mapping[str, Point] = field(default_factory=dict)
    """The newest point of each metric, of the last step; the keys say which histories there are."""
    started_ms: int | None = None
    """When it was opened, by the clock of the machine that did it."""
    ended_ms: int | None = None
    """When it last ended; a run that goes on keeps the earlier end until the next one."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The newest value of each metric."""
        return {key: point.value for key, point in self.newest.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExperiment:
    """An experiment of the store, under which runs are listed."""

    experiment_id: str
    name: str
    artifact_location: str
    """Below which new runs keep their artifacts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An entry of an artifact folder; ``size`` is None for folders and where it is not known."""

    path: str
    """Relative to the run's artifact root, with ``/``."""
    is_folder: bool
    size: int | None


class ArtifactStore(Protocol):
    """The files of one run.

    Every method raises ``UnreachableError`` when the store cannot be reached, and never answers
    "nothing there" in that case; another ``TrackingError`` is a refusal.
    """

    def list(self, folder: str = "") -> list[Artifact]:
        """Return what lies directly in ``folder``; an absent folder is empty."""
        ...

    def upload(self, file: Path, *, to: str) -> None:
        """Store ``file`` in the folder ``to`` under its own name, whole or not at all."""
        ...

    def download(self, path: str, *, to: Path) -> None:
        """Write the artifact ``path`` to the file ``to``, whole or not at all."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return the content of one small artifact, or None when it does not exist."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Store one small artifact, replacing an earlier one whole."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file or a folder; refuses a path that leaves the run.

        A back-end that cannot delete is a ``TrackingError`` that says so.
        """
        ...


class RunStore(Protocol):
    """Where runs live.

    Every method raises ``TrackingError`` with what happened and a hint, and its kind
    ``UnreachableError`` where the store did not answer.
    """

    @property
    def uri(self) -> str:
        """The tracking URI, absolute, without secrets."""
        ...

    def ping(self) -> None:
        """Raise ``UnreachableError`` if the store does not answer."""
        ...

    def experiments(self, *, deleted: bool = False) -> list[RecordedExperiment]:
        """Return the experiments that are not deleted."""
        ...

    def create(
        self,
        *,
        experiment: str,
        name: str | None,
        tags: Mapping[str, str],
        experiment_id: str | None = None,
        started_ms: int | None = None,
    ) -> Run:
        """Open a new run with status RUNNING in the experiment called ``experiment``.

        ``experiment_id`` wins: a child belongs where its parent is. ``started_ms`` is for a run
        that began before the store was told.
        """
        ...

    def read(self, run_id: str) -> Run:
        """Return a run; an unknown or deleted one is a ``TrackingError`` that names it."""
        ...

    def find(self, *, experiment_id: str, tags: Mapping[str, str]) -> list[Run]:
        """Return the active runs of an experiment that have all of ``tags``, newest first."""
        ...

    def set_status(self, run_id: str, status: RunStatus, *, ended_ms: int | None = None) -> None:
        """Set the status, and the end time where it is a final one: now, if it is not given."""
        ...

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags, replacing those of the same name."""
        ...

    def claim_param(self, run_id: str, key: str, value: str) -> bool:
        """Log one parameter; False if it is already there with another value."""
        ...

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log parameters that are new or have the same value."""
        ...

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Store points in batches; points already stored are not doubled."""
        ...

    def history(self, run_id: str, key: str) -> list[Point]:
        """Return every stored point of one metric, by step and then time."""
        ...

    def between(self, run_id: str, key: str, *, first: int, last: int) -> list[Point]:
        """Return every stored point of one metric at the steps from ``first`` to ``last``.

        They are ordered as in ``history``, which costs more where that is long.
        """
        ...

    def log_table(self, run_id: str, columns: Mapping[str, Sequence[object]], *, path: str) -> None:
        """Store a table that the tracking server's page can show, replacing an earlier one."""
        ...

    def delete(self, run_id: str) -> None:
        """Remove a run from the lists (it can be restored)."""
        ...

    def artifacts(self, run_id: str) -> ArtifactStore:
        """Return the run's artifacts."""
        ...
