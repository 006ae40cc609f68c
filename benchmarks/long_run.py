"""What a resume reads before it trains, in a run with a very long history."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from benchmarks.recording import Served, served
from benchmarks.table import table
from mmrun.checkpoints.at_once import at_once
from mmrun.collector import collect_rarely
from mmrun.tracking.attempts import AttemptRecord, Overlap, Start
from mmrun.tracking.journal import Journal
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.store import Point
from mmrun.workflows.killed import as_killed
from mmrun.workflows.overlap import read_earlier
from mmrun.workflows.past import Past

TITLE = "What a resume reads of ten million points"
_METRICS, _STEPS, _AGAIN = 1000, 10_000, 100
"""So many metrics, each with so many points; the last steps of them are done again."""
_FRACTION = 100
"""One in so many histories is read whole, to see what all of them would cost."""
_START_MS = 1_700_000_000_000
_FILL = """
INSERT INTO {table} (key, value, timestamp, run_uuid, step, is_nan)
SELECT 'metric_' || metric, step / 7.0 + metric, %(start)s::bigint + step, %(run)s, step, false
FROM generate_series(%(first)s::int, %(last)s::int) AS step,
     generate_series(0, %(metrics)s::int - 1) AS metric
"""


def run(folder: Path) -> str:
    """Resume from step 9,900 of 10,000, in the same folder and in an empty one."""
    with served(folder / "server") as server:
        run_id = MlflowStore(server.uri).create(experiment="bench", name=None, tags={}).run_id
        _fill(server, run_id)
        known = _write_journal(folder / "here")
        rows = [
            (f"mmrun, {name}", *_measured(server.uri, run_id, folder / where, known=known))
            for where, name in (("here", "in the same folder"), ("there", "on another machine"))
        ]
        whole_s = _FRACTION * _whole_histories(server.uri, run_id)
    rows.append(("all histories", whole_s, whole_s, _METRICS * _STEPS))
    head = ("reading", "before training (s)", "until all is read (s)", "points")
    return (
        f"{table(head, rows)}\n\n"
        f"{_METRICS} metrics of {_STEPS} points on a real `mlflow server` before PostgreSQL, "
        f"{_AGAIN} steps of them done again. On another machine the rest is read while the "
        f"training starts. All histories: one in {_FRACTION} was read, four at a time, and the "
        f"time taken {_FRACTION} times."
    )


def main() -> None:
    """Read what a resume reads; print how long it takes, and how many points that are."""
    uri, run_id, folder, known = sys.argv[1:]
    collect_rarely()  # as the command does until it trains
    store = MlflowStore(uri)
    store.read(run_id)
    from_step = _STEPS - _AGAIN
    last = _record(run_id, journaled=int(known))
    past = Past(last=last, lineage=((1, 0),))
    journal = Path(folder)
    begun = time.perf_counter()
    earlier = read_earlier(store, run_id, past=past, journal=journal, from_step=from_step)
    overlap = Overlap(earlier.points, from_step=from_step, stored=earlier.stored)
    as_killed(last, journal=journal, saved=None)
    Journal(journal, attempt=2).import_unsent(_line(from_step))
    ready = time.perf_counter()
    count = len(earlier.stored.wait()) if earlier.stored is not None else len(earlier.points)
    read = time.perf_counter()
    if overlap.decide(_line(_STEPS)[0]) != "confirm":
        raise RuntimeError("the last step is not known")
    print(ready - begun, read - begun, count)


def _measured(uri: str, run_id: str, folder: Path, *, known: int) -> tuple[float, float, int]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.long_run", uri, run_id, str(folder), str(known)],
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    before, until, points = done.stdout.split()
    return float(before), float(until), int(points)


def _whole_histories(uri: str, run_id: str) -> float:
    store = MlflowStore(uri)
    keys = [f"metric_{number}" for number in range(_METRICS // _FRACTION)]
    begun = time.perf_counter()
    at_once(lambda key: store.history(run_id, key), keys)
    return time.perf_counter() - begun


def _fill(server: Served, run_id: str) -> None:
    """Put the points into the database as the server would, which would take it half an hour."""
    values = {"start": _START_MS, "run": run_id, "last": _STEPS, "metrics": _METRICS}
    database = server.database
    with psycopg.connect(database.uri(database.newest)) as connection:
        for name, first in (("metrics", 1), ("latest_metrics", _STEPS)):
            query = _FILL.format(table=name)
            connection.execute(query.encode(), {**values, "first": first})


def _write_journal(folder: Path) -> int:
    """Write what the killed attempt logged; return how much of it its record knows."""
    journal = Journal(folder, attempt=1)
    known = 0
    for step in range(1, _STEPS + 1):
        journal.append(_line(step))
        known = journal.own.size() if step <= _STEPS - _AGAIN else known
    journal.own.acknowledge(journal.own.size())
    return known


def _line(step: int) -> list[Point]:
    return [
        Point(f"metric_{number}", step, _START_MS + step, step / 7 + number)
        for number in range(_METRICS)
    ]


def _record(run_id: str, *, journaled: int) -> AttemptRecord:
    """Return the record as it was when the checkpoint was saved that is loaded."""
    return AttemptRecord(
        attempt=1,
        run_id=run_id,
        from_step=0,
        started_ms=_START_MS,
        config={},
        host="here",
        pid=0,
        lineage=(Start(attempt=1, from_step=0, started_ms=_START_MS),),
        to_step=_STEPS - _AGAIN,
        journaled=journaled,
    )


if __name__ == "__main__":
    main()
