"""What ``mmrun checkpoints list`` shows: every checkpoint of a run, and what is wrong with it."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mmrun.checkpoints.archive import Archive, Candidate, Where
from mmrun.checkpoints.entry import Entry
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.policy import Lineage, Saved, best, live, newest, superseded
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.address import sqlite_file, tracking_uri
from mmrun.tracking.attempts import is_timing
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.store import RunStore, UnreachableError

_RUN = re.compile(r"[0-9a-f]{32}")
_METRICS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One checkpoint as it is shown."""

    reference: str
    """What a user writes to mean it: a step, or ``STEP.a<k>``."""
    step: int
    attempt: int | None
    size: int | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    where: Literal["local", "store", "both"]
    whole: bool
    state: str
    """``whole``, or why it is not; what lies only in the store is compared by sizes."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """A run, and the places in which its checkpoints may be."""

    local: LocalCheckpoints
    spool: Spool
    run_id: str | None
    store: RunStore | None
    lineage: Lineage = ()
    warning: str | None = None


def list_checkpoints_command(
    target: str,
    *,
    format: Literal["table", "json"],  # noqa: A002 (the option's name)
    tracking_uri: str | None = None,
) -> str:
    """Return the listing of an output folder or of a run.

    Args:
        target: An output folder, which knows its run, or the id of a run.
        format: How it is written.
        tracking_uri: Where the run is recorded, if not in the default place.

    Raises:
        UsageError: ``target`` is neither.
        TrackingError: A run's store cannot be reached, and there is no folder to show instead.
    """
    found = _of_folder(Path(target), uri=tracking_uri) or _of_run(target, uri=tracking_uri)
    rows, warning = _rows(found)
    if format == "json":
        tree = {"run_id": found.run_id, "warning": warning, "checkpoints": [*map(asdict, rows)]}
        return json.dumps(tree, indent=1)
    return _table(rows, run_id=found.run_id, warning=warning)


def _of_folder(folder: Path, *, uri: str | None) -> _Target | None:
    if not folder.is_dir():
        return None
    train = folder / "train" if (folder / "train").is_dir() else folder
    run_file = read_run_file(folder)
    local = LocalCheckpoints(train)
    runs = {manifest.run_id for _, manifest in local.list()}
    if run_file is None and not any(local.entries()):
        raise UsageError(
            f"{folder} has neither a run.json nor a checkpoint: no training wrote to it",
            hint="give the folder that 'mmrun train' wrote to, or the id of a run",
        )
    run_id = run_file.run_id if run_file else next(iter(runs), None) if len(runs) == 1 else None
    store, warning = None, None
    if run_id is not None:
        try:
            store = _open(uri, recorded=run_file.tracking_uri if run_file else None)
        except TrackingError as error:
            warning = _only_local(error)
    return _Target(
        local=local,
        spool=Spool(folder / "spool", run_id=run_id),
        run_id=run_id,
        store=store,
        lineage=run_file.lineage if run_file else (),
        warning=warning,
    )


def _of_run(target: str, *, uri: str | None) -> _Target:
    if not _RUN.fullmatch(target):
        raise UsageError(
            f"{target!r} is neither an output folder nor the id of a run",
            hint="write 'mmrun checkpoints list OUTPUT_DIR', or the run's 32 characters",
        )
    nowhere = Path("/nonexistent") / target
    store = _open(uri, recorded=None)
    try:
        store.read(target)
    except UnreachableError:
        raise
    except TrackingError as error:
        raise UsageError(
            f"{target} is neither an output folder nor a run: {error}",
            hint=error.hint or "check MLFLOW_TRACKING_URI",
        ) from error
    return _Target(
        local=LocalCheckpoints(nowhere), spool=Spool(nowhere), run_id=target, store=store
    )


def _open(given: str | None, *, recorded: str | None) -> RunStore:
    """Open the store of the run; a database that is not there is not made."""
    uri = given or tracking_uri(recorded, project=Path.cwd())
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise UnreachableError(
            f"there is no database {file}",
            hint="set MLFLOW_TRACKING_URI, or --tracking_uri, to where the run is recorded",
        )
    from mmrun.tracking.mlflow_store import MlflowStore

    return MlflowStore(uri, patience_s=3)


def _only_local(error: TrackingError) -> str:
    return f"the store could not be reached, only what is on this machine is shown: {error}"


def _rows(target: _Target) -> tuple[Sequence[Row], str | None]:
    """Return the rows; where the store fails, those of this machine and a warning."""
    if target.store is not None and target.run_id is not None:
        try:
            remote = RemoteCheckpoints(target.store.artifacts(target.run_id))
            lineage = target.lineage or _lineage(target.store, target.run_id)
            return _examined(target, remote, lineage=lineage), target.warning
        except TrackingError as error:
            if not target.local.folder.exists():
                raise
            return _examined(target, None, lineage=target.lineage), _only_local(error)
    return _examined(target, None, lineage=target.lineage), target.warning


def _lineage(store: RunStore, run_id: str) -> Lineage:
    from mmrun.workflows.attempt import last_record

    record = last_record(store, run_id)
    return () if record is None else [(start.attempt, start.from_step) for start in record.lineage]


def _examined(
    target: _Target, remote: RemoteCheckpoints | None, *, lineage: Lineage
) -> Sequence[Row]:
    archive = Archive(target.local, remote, run_id=target.run_id)
    candidates, broken = archive.survey()
    problems = {
        one.saved.key: {found.where: problem for found, problem in archive.examine(one)}
        for one in candidates
    }
    usable = [one.saved for one in candidates if None in problems[one.saved.key].values()]
    notes = _notes(target, [one.saved for one in candidates], usable=usable, lineage=lineage)
    rows = [
        _row(one, problems[one.saved.key], notes=notes[one.saved.key], lineage=lineage)
        for one in candidates
    ]
    rows += [
        _broken(one.step, "store" if one.where == "remote" else "local", one.reason)
        for one in broken
    ]
    rows += [_set_aside(target.local, entry) for entry in target.local.rejected()]
    return sorted(rows, key=lambda row: (row.step, row.attempt or 0))


def _row(
    candidate: Candidate,
    problems: Mapping[Where, str | None],
    *,
    notes: tuple[str, ...],
    lineage: Lineage,
) -> Row:
    saved = candidate.saved
    entry = candidate.local or candidate.remote
    manifest = entry.manifest if entry else None
    bare = str(saved.step)
    return Row(
        reference=f"{bare}.a{saved.attempt}" if superseded(saved, lineage) else bare,
        step=saved.step,
        attempt=saved.attempt,
        size=manifest.size if manifest else None,
        metrics=saved.metrics,
        where=_where(candidate),
        whole=None in problems.values(),
        state=_state(problems),
        notes=notes,
    )


def _where(candidate: Candidate) -> Literal["local", "store", "both"]:
    if candidate.remote is None:
        return "local"
    return "store" if candidate.local is None else "both"


def _state(problems: Mapping[Where, str | None]) -> str:
    said = {"local": "here", "remote": "in the store"}
    wrong = [f"{said[where]}: {problem}" for where, problem in problems.items() if problem]
    if not wrong:
        return "whole" if "local" in problems else "whole by its sizes"
    if None in problems.values():
        return f"usable, but {'; '.join(wrong)}"
    return "; ".join(wrong)


def _notes(
    target: _Target, every: Sequence[Saved], *, usable: Sequence[Saved], lineage: Lineage
) -> Mapping[tuple[int, int], tuple[str, ...]]:
    """Say of each checkpoint what it is to the run."""
    alive = live(usable, lineage)
    keys = {
        "latest": _keys([newest(alive)]),
        "best": _keys([best(alive)]),
        "superseded": {one.key for one in every if superseded(one, lineage)},
        "not yet sent": _keys(target.spool.waiting()),
    }
    return {one.key: tuple(note for note in keys if one.key in keys[note]) for one in every}


def _keys(saved: Iterable[Saved | None]) -> set[tuple[int, int]]:
    return {one.key for one in saved if one is not None}


def _broken(step: int, where: Literal["local", "store"], reason: str) -> Row:
    return Row(
        reference=str(step),
        step=step,
        attempt=None,
        size=None,
        where=where,
        whole=False,
        state=reason,
    )


def _set_aside(local: LocalCheckpoints, entry: Entry) -> Row:
    folder = local.path(entry.name)
    reason = folder.with_name(f"{folder.name}.reason.txt")
    text = reason.read_text(encoding="utf-8").strip() if reason.exists() else entry.problem
    return Row(
        reference=str(entry.step),
        step=entry.step,
        attempt=entry.manifest.attempt if entry.manifest else None,
        size=entry.manifest.size if entry.manifest else None,
        where="local",
        whole=False,
        state=text or "found broken",
        notes=("rejected",),
    )


def _table(rows: Sequence[Row], *, run_id: str | None, warning: str | None) -> str:
    lines = [f"run {run_id}"] if run_id else []
    if warning is not None:
        lines.append(f"warning: {warning}")
    if not rows:
        return "\n".join([*lines, "no checkpoint has been saved yet"])
    cells = [("STEP", "SIZE", "METRICS", "WHERE", "STATE", "NOTES")]
    cells += [
        (row.reference, _size(row.size), _metrics(row), row.where, row.state, ", ".join(row.notes))
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join([*lines, *_aligned(cells, widths)])


def _aligned(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for line in cells:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join(padded).rstrip()


def _size(size: int | None) -> str:
    if size is None:
        return "-"
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:  # noqa: PLR2004
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _metrics(row: Row) -> str:
    shown = [(key, value) for key, value in sorted(row.metrics.items()) if not is_timing(key)]
    return " ".join(f"{key}={value:.4g}" for key, value in shown[:_METRICS_SHOWN]) or "-"
