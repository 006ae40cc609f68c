"""What ``mmrun checkpoints list`` shows: every checkpoint of a run, and what is wrong with it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Literal

from mmrun.checkpoints.archive import Archive, Candidate, waits
from mmrun.checkpoints.entry import Entry
from mmrun.checkpoints.found import Found, Where
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.policy import Lineage, Saved, best, live, newest, superseded
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.errors import TrackingError
from mmrun.tracking.attempts import is_timing
from mmrun.workflows.checkpoints.sizes import in_words
from mmrun.workflows.columns import aligned
from mmrun.workflows.target import Target, find_target, lineage_of, only_local

_Place = Where | Literal["spool"]
_METRICS_SHOWN = 3
_AT_ONCE = 4


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
    found = find_target(target, uri=tracking_uri)
    rows, warning = _rows(found)
    if format == "json":
        tree = {"run_id": found.run_id, "warning": warning, "checkpoints": [*map(asdict, rows)]}
        return json.dumps(tree, indent=1)
    return _table(rows, run_id=found.run_id, warning=warning)


def _rows(target: Target) -> tuple[Sequence[Row], str | None]:
    """Return the rows; where the store fails, those of this machine and a warning."""
    if (remote := target.remote()) is not None:
        try:
            return _examined(target, remote, lineage=lineage_of(target)), target.warning
        except TrackingError as error:
            if not target.local.folder.exists():
                raise
            return _examined(target, None, lineage=target.lineage), only_local(error)
    return _examined(target, None, lineage=target.lineage), target.warning


def _examined(
    target: Target, remote: RemoteCheckpoints | None, *, lineage: Lineage
) -> Sequence[Row]:
    archive = Archive(target.local, remote, run_id=target.run_id, spool=target.spool.folder)
    candidates, broken = archive.survey(trusting=False)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        examined = list(pool.map(lambda one: list(archive.examine(one)), candidates))
    copies = {one.saved.key: found for one, found in zip(candidates, examined, strict=True)}
    problems = {
        key: {_place(found): problem for found, problem in found_here}
        for key, found_here in copies.items()
    }
    usable = [one.saved for one in candidates if None in problems[one.saved.key].values()]
    notes = _notes(target, candidates, usable=usable, lineage=lineage, remote=remote)
    rows = [
        _row(
            one,
            problems[one.saved.key],
            size=next((f.manifest.size for f, _ in copies[one.saved.key] if f.manifest), None),
            notes=notes[one.saved.key],
            lineage=lineage,
        )
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
    problems: Mapping[_Place, str | None],
    *,
    size: int | None,
    notes: tuple[str, ...],
    lineage: Lineage,
) -> Row:
    saved = candidate.saved
    bare = str(saved.step)
    return Row(
        reference=f"{bare}.a{saved.attempt}" if superseded(saved, lineage) else bare,
        step=saved.step,
        attempt=saved.attempt,
        size=size,
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


def _place(found: Found) -> _Place:
    return "spool" if waits(found) else found.where


def _state(problems: Mapping[_Place, str | None]) -> str:
    said = {"local": "here", "spool": "in the spool", "remote": "in the store"}
    wrong = [f"{said[where]}: {problem}" for where, problem in problems.items() if problem]
    if not wrong:
        return "whole" if problems.keys() & {"local", "spool"} else "whole by its sizes"
    if None in problems.values():
        return f"usable, but {'; '.join(wrong)}"
    return "; ".join(wrong)


def _notes(
    target: Target,
    candidates: Sequence[Candidate],
    *,
    usable: Sequence[Saved],
    lineage: Lineage,
    remote: RemoteCheckpoints | None,
) -> Mapping[tuple[int, int], tuple[str, ...]]:
    """Say of each checkpoint what it is to the run."""
    alive = live(usable, lineage)
    every = [one.saved for one in candidates]
    stored = [one.remote for one in candidates if one.remote is not None]
    pinned = remote.holds.pinned() if remote is not None else frozenset()
    restoring = remote.holds.being_restored() if remote is not None else frozenset()
    keys = {
        "latest": _keys([newest(alive)]),
        "best": _keys([best(alive)]),
        "superseded": {one.key for one in every if superseded(one, lineage)},
        "pinned": _keys(one for one in stored if one.name in pinned),
        "being restored": _keys(one for one in stored if one.name in restoring),
    }
    waiting = {
        one.key: (f"not yet sent ({target.spool.state(one.name)})",)
        for one in target.spool.waiting()
    }
    return {
        one.key: (*(note for note in keys if one.key in keys[note]), *waiting.get(one.key, ()))
        for one in every
    }


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
        (
            row.reference,
            "-" if row.size is None else in_words(row.size),
            _metrics(row),
            row.where,
            row.state,
            ", ".join(row.notes),
        )
        for row in rows
    ]
    return "\n".join([*lines, aligned(cells)])


def _metrics(row: Row) -> str:
    shown = [(key, value) for key, value in sorted(row.metrics.items()) if not is_timing(key)]
    return " ".join(f"{key}={value:.4g}" for key, value in shown[:_METRICS_SHOWN]) or "-"
