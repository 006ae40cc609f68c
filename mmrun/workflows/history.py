"""What ``mmrun history`` shows: what a run logged, as one line however often it was interrupted."""

import csv
import io
import json
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mmrun.config.values import nearest
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.store import Point
from mmrun.workflows.columns import aligned
from mmrun.workflows.past import Logged, read_journaled, read_logged
from mmrun.workflows.target import Target, find_target, only_local

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point as it is shown."""

    metric: str
    step: int
    value: float
    attempt: int | None
    """None for what a fork has from its source."""
    timestamp_ms: int


def history_command(
    target: str,
    *,
    metrics: Collection[str] = (),
    form: Literal["table", "csv", "json"],
    all_attempts: bool = False,
    tracking_uri: str | None = None,
) -> str:
    """Return the history of a run, in the order of metric, step and time.

    Args:
        target: An output folder, which knows its run, or the id of a run.
        metrics: Those that are wanted; empty for all.
        form: How it is written.
        all_attempts: Whether to show every point of every attempt, not only what counts.
        tracking_uri: Where the run is recorded, if not in the default place.

    Raises:
        UsageError: ``target`` is neither, or the run has no such metric.
        TrackingError: The run's store cannot be reached, and there is no folder to read instead.
    """
    logged = _read(find_target(target, uri=tracking_uri))
    _refuse_unknown(metrics, known={point.key for point in logged.points})
    points = logged.points if all_attempts else logged.effective()
    wanted = sorted(point for point in points if not metrics or point.key in metrics)
    rows = [_row(point, logged) for point in wanted]
    return {"table": _table, "csv": _csv, "json": _json}[form](rows)


def _read(target: Target) -> Logged:
    """Read what was logged; where the store fails, what is on this machine, with a warning."""
    here = target.journal.is_dir()
    if target.store is None and here:
        logger.warning("%s", target.warning)
        return read_journaled(target.journal, lineage=target.lineage)
    store, run_id = target.stored()
    try:
        return read_logged(store, store.read(run_id), journal=target.journal)
    except TrackingError as error:
        if not here:
            raise
        logger.warning("%s", only_local(error))
        return read_journaled(target.journal, lineage=target.lineage)


def _refuse_unknown(metrics: Collection[str], *, known: Collection[str]) -> None:
    for metric in metrics:
        if metric not in known:
            close = nearest(metric, frozenset(known))
            shown = f"--metric {close}" if close else f"one of: {', '.join(sorted(known))}"
            raise UsageError(
                f"the run has no metric {metric!r}",
                hint=shown if known else "the run has logged nothing yet",
            )


def _row(point: Point, logged: Logged) -> Row:
    return Row(
        metric=point.key,
        step=point.step,
        value=point.value,
        attempt=logged.trail.attempt_of(point),
        timestamp_ms=point.timestamp_ms,
    )


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "nothing has been logged yet"
    cells = [("METRIC", "STEP", "VALUE", "ATTEMPT", "TIME")]
    cells += [
        (row.metric, str(row.step), repr(row.value), str(row.attempt or "-"), _time(row))
        for row in rows
    ]
    return aligned(cells)


def _time(row: Row) -> str:
    then = datetime.fromtimestamp(row.timestamp_ms / 1000, tz=UTC).astimezone()
    return then.isoformat(sep=" ", timespec="milliseconds")


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row.__dataclass_fields__)
    writer.writerows(asdict(row).values() for row in rows)
    return text.getvalue().rstrip("\n")


def _json(rows: Sequence[Row]) -> str:
    # JSON has no word for what is no number: it is a string there, which float() reads.
    tree = [
        {**asdict(row), "value": row.value if math.isfinite(row.value) else json.dumps(row.value)}
        for row in rows
    ]
    return json.dumps(tree, indent=1, ensure_ascii=False)
