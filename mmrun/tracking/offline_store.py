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
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from mmrun import faults, files
from mmrun.errors import TrackingError
from mmrun.tracking.offline_artifacts import NOT_ASKED, ROOT, OfflineArtifacts, waiting_artifacts
from mmrun.tracking.store import (
    Point,
    RecordedExperiment,
    Run,
    RunStatus,
    UnreachableError,
)

FORMAT = 1
NAME = "offline"
_STATE = "run.json"
_CLAIMS = "claims"
"""Parameters that one of several processes may have, a file each."""
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


def waits(output_dir: Path) -> bool:
    """Whether a run of this folder was trained offline, and its server was not told all of it."""
    waiting = OfflineRun.read(output_dir / NAME)
    if waiting is None:
        return False
    told = not waiting.unknown and waiting.status is None  # it was only looked at, and refused
    return not told or bool(waiting_artifacts(output_dir / NAME))


def unknown_run(output_dir: Path) -> str | None:
    """Return the id of this folder's run if no server has it yet."""
    waiting = OfflineRun.read(output_dir / NAME)
    return waiting.run_id if waiting is not None and waiting.unknown else None


def forget(folder: Path) -> None:
    """Remove what was told, out of the way first: what a death leaves of it does not wait."""
    told = folder.with_name(f".{folder.name}.told")
    shutil.rmtree(told, ignore_errors=True)
    if folder.exists():
        folder.rename(told)
    faults.reach("offline.forgotten")
    shutil.rmtree(told, ignore_errors=True)


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
        self._known: OfflineRun | None = None
        if run_id is not None:
            self._known = OfflineRun(run_id=run_id, tracking_uri=uri, tags={"mmrun.format": "1"})

    @property
    def uri(self) -> str:
        """The URI of the server that the run is meant for."""
        return self._uri

    @property
    def _run(self) -> OfflineRun | None:
        # From the file each time: a lease is of use only if it shows what others wrote.
        return OfflineRun.read(self.folder) or self._known

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
            run = OfflineRun(
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
            shutil.rmtree(self.folder / _CLAIMS, ignore_errors=True)
            run.write(self.folder)
        return self.read(run.run_id)

    def read(self, run_id: str) -> Run:
        """Return the run of this folder; nothing is known of others."""
        run = self._run
        if run is None or run.run_id != run_id:
            raise TrackingError(
                f"run {run_id} is not the one of this output folder, and {NOT_ASKED}",
                hint="leave --offline out, or give the --output_dir of that run",
            )
        return Run(
            run_id=run.run_id,
            experiment_id="",
            name=run.name or "",
            status=run.status or "RUNNING",
            tags=dict(run.tags),
            params={**run.params, **self._claims()},
        )

    def experiments(self, *, deleted: bool = False) -> list[RecordedExperiment]:  # noqa: ARG002
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
        if self.read(run_id).params.get(key, value) != value:
            return False
        claims = self.folder / _CLAIMS
        claims.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), (claims / key).open("x", encoding="utf-8") as claim:
            claim.write(value)  # of two at once one makes the file, also over a network
        return (claims / key).read_text(encoding="utf-8") == value

    def _claims(self) -> dict[str, str]:
        found = (self.folder / _CLAIMS).glob("[!.]*")
        return {path.name: path.read_text(encoding="utf-8") for path in found}

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Keep parameters that are new or have the same value."""
        with self._lock:
            known = self.read(run_id).params
            own = self._run.params if self._run is not None else {}
            for key, value in params.items():
                if known.get(key, value) != value:
                    raise TrackingError(f"the parameter {key!r} was logged with {known[key]!r}")
            self._change(run_id, params={**own, **params})

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:  # noqa: ARG002
        """Refuse them: they wait in the journal."""
        raise UnreachableError(NOT_ASKED)

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
        return OfflineArtifacts(self.folder / ROOT, kept=self._kept)

    def _change(self, run_id: str, **changed: object) -> None:
        with self._lock:
            self.read(run_id)
            if (run := self._run) is not None:
                replace(run, **changed).write(self.folder)  # type: ignore[arg-type]


def _refused(what: str) -> TrackingError:
    return TrackingError(f"{what} cannot be recorded: {NOT_ASKED}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
