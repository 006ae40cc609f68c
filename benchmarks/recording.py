"""What records a training, without a training: a store, an attempt, and its sender."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmrun.tracking.attempts import AttemptRecord, Overlap, Start
from mmrun.tracking.journal import Clock, Journal
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import RunStore
from mmrun.workflows.attempt import Attempt
from tests.mlflow_server import MlflowServer
from tests.postgres import Postgres, postgres


@dataclass(frozen=True, kw_only=True)
class Served:
    """An MLflow server before a PostgreSQL."""

    uri: str
    database: Postgres


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Run both, with the settings that they have by default."""
    with postgres(durable=True) as database:
        server = MlflowServer(folder, backend=database.uri(database.new_database()))
        server.start()
        try:
            yield Served(uri=server.uri, database=database)
        finally:
            server.stop()


@contextmanager
def attempt(store: RunStore, run_id: str, *, folder: Path) -> Iterator[tuple[Attempt, Sender]]:
    """Open the first attempt of a run, with its sender at work."""
    journal = Journal(folder / "journal", attempt=1)
    sender = Sender(store, run_id, journal)
    start = Start(attempt=1, from_step=0, started_ms=0)
    record = AttemptRecord(
        attempt=1,
        run_id=run_id,
        from_step=0,
        started_ms=0,
        config={},
        host="here",
        pid=0,
        lineage=(start,),
    )
    opened = Attempt(
        record,
        store=store,
        journal=journal,
        sender=sender,
        overlap=Overlap([], from_step=0),
        clock=Clock(),
    )
    with sender:
        yield opened, sender
