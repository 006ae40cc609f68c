"""What ``mmrun runs`` shows: the trainings of an experiment, and what became of each."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mmrun.tracking import launcher
from mmrun.tracking.lease import Holder, holder
from mmrun.tracking.signs_of_life import Life, life_of, watch
from mmrun.tracking.store import Run, RunStatus
from mmrun.workflows.columns import aligned
from mmrun.workflows.over import RUNNING, STATUS_TAG, is_open, status_of
from mmrun.workflows.which_experiment import Shelf, find_shelf

_DEAD = "dead"
_UNKNOWN = "running or dead"
_UNTOLD = "ended, not told how"
_CHECKPOINT_TAG = "mmrun.checkpoint."
_PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run as it is shown."""

    run_id: str
    name: str
    role: str
    """``training``, ``generation`` or ``setup``."""
    parent: str | None
    state: str
    """What it is by what mmrun knows: running, dead, finished, failed, killed, …"""
    status: RunStatus
    """What MLflow says, which `mlflow run` may have rewritten."""
    attempts: int
    latest: str | None
    best: str | None
    """Names of checkpoints in the store."""
    started_ms: int | None
    ended_ms: int | None
    held_by: Holder | None
    """The process that holds the run, dead or alive."""
    alive: bool | None
    """Whether that process lives; None where there is none, or where it cannot be told."""


def runs_command(
    experiment: str | None = None,
    *,
    format: Literal["table", "json"],  # noqa: A002 (the option's name)
    every: bool = False,
    watching: bool = False,
    config_path: Path | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Return the list of an experiment's runs, the newest first.

    Args:
        experiment: Its name or id; by default the one that a training would be recorded in.
        format: How it is written.
        every: Whether runs of `setup` and `generate` are shown too.
        watching: Whether to wait for signs of life of runs on other machines.
        config_path: The experiment file that says which experiment and where.
        tracking_uri: Where the runs are recorded, if not in the usual place.

    Raises:
        UsageError: there is no such experiment.
        TrackingError: the store does not answer.
    """
    shelf = find_shelf(experiment, config_path=config_path, uri=tracking_uri)
    found = _found(shelf)
    shown = [run for run in found if _is_shown(run, every=every)]
    rows = _rows(shelf, shown, watching=watching)
    if format == "json":
        name = shelf.experiment.name if shelf.experiment is not None else None
        return json.dumps({"experiment": name, "runs": [*map(asdict, rows)]}, indent=1)
    return _table(shelf, rows, others=len(found) - len(shown))


def state_of(run: Run, life: Life) -> str:
    """Return in a word or two what a run is; its tag is the truth where it contradicts MLflow."""
    said = run.tags.get(STATUS_TAG)
    if life == "alive" and (is_open(run) or said is None):
        return RUNNING
    if is_open(run) and life in ("dead", "unknown"):
        return _DEAD if life == "dead" else _UNKNOWN
    if said == RUNNING:
        return _UNTOLD
    if said is None:
        return "begun, never worked on" if run.status == "RUNNING" else run.status.lower()
    return said if run.status == status_of(said) else f"{said} (MLflow: {run.status})"


def _found(shelf: Shelf) -> Sequence[Run]:
    if shelf.store is None or shelf.experiment is None:
        return []
    return shelf.store.find(experiment_id=shelf.experiment.experiment_id, tags={})


def _is_ours(run: Run) -> bool:
    return launcher.is_own(run) or launcher.ROLE_TAG in run.tags


def _is_shown(run: Run, *, every: bool) -> bool:
    if run.tags.get(launcher.ROLE_TAG) == launcher.ROLE:
        return False
    return launcher.is_own(run) or (every and _is_ours(run))


def _rows(shelf: Shelf, runs: Sequence[Run], *, watching: bool) -> Sequence[Row]:
    lives = {run.run_id: life_of(run) for run in runs}
    far = [run for run in runs if lives[run.run_id] == "unknown"]
    if watching and shelf.store is not None:
        silent = watch(shelf.store, far)
        lives |= {run.run_id: "dead" if run.run_id in silent else "alive" for run in far}
    return [_row(run, lives[run.run_id]) for run in runs]


def _row(run: Run, life: Life) -> Row:
    held_by = holder(run)
    latest, best = (run.tags.get(f"{_CHECKPOINT_TAG}{which}") for which in ("latest", "best"))
    return Row(
        run_id=run.run_id,
        name=run.name,
        role=run.tags.get(launcher.ROLE_TAG, "training"),
        parent=run.tags.get(_PARENT_TAG),
        state=state_of(run, life),
        status=run.status,
        attempts=_number(run.tags.get("mmrun.attempts")),
        latest=latest,
        best=best,
        started_ms=run.started_ms,
        ended_ms=None if is_open(run) else run.ended_ms,
        held_by=held_by,
        alive={"alive": True, "dead": False}.get(life),
    )


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _table(shelf: Shelf, rows: Sequence[Row], *, others: int) -> str:
    if shelf.experiment is None:
        return f"{shelf.nothing}; 'mmrun train' begins one"
    besides = f"; {_runs(others)} of other kinds not shown" if others else ""
    if not rows:
        return f"experiment {shelf.experiment.name}: no training yet{besides}"
    several = len({row.role for row in rows}) > 1
    cells = [_HEAD, *(_cells(row) for row in rows)]
    if not several:
        cells = [line[:2] + line[3:] for line in cells]
    title = f"experiment {shelf.experiment.name}: {_runs(len(rows))}{besides}"
    return "\n".join([title, aligned(cells), *_advice({row.state for row in rows})])


_HEAD: tuple[str, ...] = (
    "RUN",
    "NAME",
    "WHAT",
    "STATE",
    "ATTEMPTS",
    "LATEST",
    "BEST",
    "BEGAN",
    "ENDED, OR WHO HAS IT",
)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.run_id,
        row.name,
        row.role,
        row.state,
        str(row.attempts) if row.attempts else "-",
        _step(row.latest),
        _step(row.best),
        _time(row.started_ms),
        _end(row),
    )


def _end(row: Row) -> str:
    if row.held_by is None or (row.alive is False and row.state != _DEAD):
        return _time(row.ended_ms)
    process = row.held_by.process
    return f"was {process}" if row.state == _DEAD else str(row.held_by)


def _step(name: str | None) -> str:
    return "-" if name is None else name.removeprefix("checkpoint-")


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ms / 1000))


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _advice(states: Collection[str]) -> list[str]:
    lines = []
    if _DEAD in states:
        lines.append("dead: 'mmrun train' goes on with such a run, 'mmrun reap' calls it KILLED")
    if _UNTOLD in states:
        lines.append(f"{_UNTOLD}: 'mmrun sync OUTPUT_DIR' tells it, else 'mmrun reap'")
    if _UNKNOWN in states:
        lines.append("running or dead: its process is not on this machine; --watch waits 30 s")
    return lines
