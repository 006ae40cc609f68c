"""A training that was told not to ask its server, and how the server is told of it later.

What waits is told in an order that can be broken off anywhere: a run is made for it where it has
none, the folder takes the id of that run, then records, then (by the caller) points and
checkpoints, and last how it stands. Whoever begins again finds what is still to be told.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mmrun import faults
from mmrun.config.masking import remember, without_secrets
from mmrun.config.schema import Experiment
from mmrun.errors import TrackingError
from mmrun.tracking.address import split_login, tracking_uri
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.history import merged
from mmrun.tracking.journal import Journal
from mmrun.tracking.lease import Lease, folder_lock
from mmrun.tracking.offline_artifacts import waiting_artifacts
from mmrun.tracking.offline_store import NAME, OfflineRun, OfflineStore, forget
from mmrun.tracking.run_file import NAME as RUN_FILE
from mmrun.tracking.run_file import RunFile, read_run_file
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import RunStore
from mmrun.tracking.tail import read_left
from mmrun.workflows.failure import forget_error
from mmrun.workflows.killed import KILLED
from mmrun.workflows.offline_name import of_the_run, settle
from mmrun.workflows.over import is_open, say_over
from mmrun.workflows.past import Past, read_past
from mmrun.workflows.records import (
    FOLDER,
    correct_attempt,
    is_record,
    kept_records,
    last_record,
    save_record,
    say_attempts,
)

logger = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long a server may take nothing before what waits is left for later."""


def offline_store(
    output_dir: Path, *, experiment: Experiment | None, run_id: str | None, run_file: RunFile | None
) -> OfflineStore:
    """Return the store of a training that asks no server: what is known here, and what waits."""
    configured = experiment.tracking.uri if experiment is not None else None
    if configured is None and run_file is not None:
        configured = run_file.tracking_uri
    uri = tracking_uri(configured, project=Path.cwd())
    remember({"uri": uri})
    return OfflineStore(
        output_dir / NAME,
        uri=without_secrets(split_login(uri)[0]),
        run_id=run_id,
        kept=kept_records(output_dir / "journal"),
    )


def deliver(output_dir: Path, store: RunStore, *, steal: bool) -> None:
    """Tell ``store`` of what was done offline; checkpoints are sent by the training.

    Raises:
        TrackingError: it is not all told, so that the training must not go on from there yet.
    """
    with folder_lock(output_dir):
        if forget_unbegun(output_dir):
            return
        run_id = settle(output_dir, store)
        with Lease(store, run_id, steal=steal):
            tell(output_dir, store)
            _send_points(output_dir, store, run_id)
            conclude(output_dir, store)
            run = store.read(run_id)
            if is_open(run):  # who has the folder knows that nobody works there
                say_over(store, run, journal=output_dir / "journal")


def forget_unbegun(output_dir: Path) -> bool:
    """Forget an offline run whose training never began an attempt, and say whether it was one."""
    waiting = OfflineRun.read(output_dir / NAME)
    begun = bool(_waiting_records(output_dir / NAME))
    if waiting is None or begun or not waiting.unknown or waiting.tries or waiting.becomes:
        return False
    run_file = read_run_file(output_dir)
    if run_file is not None and run_file.run_id == waiting.run_id:
        (output_dir / RUN_FILE).unlink()  # first: who dies here comes back to do the rest
    forget(output_dir / NAME)
    return True


def _send_points(output_dir: Path, store: RunStore, run_id: str) -> None:
    past = read_past(store, store.read(run_id), read_run_file(output_dir))
    with sender_of(output_dir, store, run_id, past=past) as sender:
        if not sender.drain(PATIENCE_S):
            raise TrackingError(
                f"the points of run {run_id} that were logged offline could not be sent",
                hint=f"when the server answers again: the same command, or mmrun sync {output_dir}",
            )


def sender_of(output_dir: Path, store: RunStore, run_id: str, *, past: Past) -> Sender:
    """Return what sends the points that the attempts so far have left in a folder."""
    # All that lies here is an earlier attempt's, as it is for the next one.
    journal = Journal(output_dir / "journal", attempt=past.attempts + 1)
    return Sender(store, run_id, journal, lineage=past.lineage, starts=past.known_starts)


def tell(output_dir: Path, store: RunStore) -> None:
    """Tell what is not known in the store yet: parameters and small artifacts.

    Raises:
        TrackingError: another machine went on with the run meanwhile, so there are two of the
            same attempt.
    """
    folder = output_dir / NAME
    waiting = OfflineRun.read(folder)
    if waiting is None:
        return
    _refuse_two_ways(output_dir, store, waiting.run_id)
    known = store.read(waiting.run_id).params
    params = {k: v for k, v in of_the_run(waiting.params).items() if k not in known}
    if params:
        store.log_params(waiting.run_id, params)
    artifacts = store.artifacts(waiting.run_id)
    for path, file in waiting_artifacts(folder).items():
        artifacts.upload(file, to=path.rpartition("/")[0])
        faults.reach("offline.told")


def conclude(output_dir: Path, store: RunStore) -> None:
    """Say how the run stands, and forget what was told.

    Where another machine went on from there, the run's state is that machine's to say.
    """
    folder = output_dir / NAME
    waiting = OfflineRun.read(folder)
    if waiting is None:
        return
    mine = _waiting_records(folder)
    for record in mine.values():
        if record.offline:
            _add_confirmed(store, record, journal=output_dir / "journal")
    newest = last_record(store, waiting.run_id)
    if newest is None or newest.attempt <= max(mine, default=0):
        store.set_tags(waiting.run_id, of_the_run(waiting.tags))
        if waiting.status is not None:
            store.set_status(waiting.run_id, waiting.status, ended_ms=waiting.ended_ms)
        if newest is not None:
            say_attempts(store, waiting.run_id, newest.rows)
        if waiting.status != "FAILED":
            forget_error(store, waiting.run_id)
    else:
        for record in mine.values():
            correct_attempt(store, record, record.ended or KILLED)
    forget(folder)


def _add_confirmed(store: RunStore, record: AttemptRecord, *, journal: Path) -> None:
    """Record which values of other machines an attempt met again, which it could not know."""
    left = read_left(journal, attempt=record.attempt, after=record.journaled)
    if left.confirmed:
        confirmed = merged([record.confirmed, left.confirmed])
        save_record(store, replace(record, confirmed=confirmed))


def _refuse_two_ways(output_dir: Path, store: RunStore, run_id: str) -> None:
    for number, record in _waiting_records(output_dir / NAME).items():
        if not record.offline:
            continue
        text = store.artifacts(run_id).read(f"{FOLDER}/{number}.json")
        there = None if text is None else AttemptRecord.from_json(text)
        if there is not None and not there.same_as(record):
            raise TrackingError(
                f"run {run_id} was continued by {there.host} while {output_dir} was trained "
                f"offline: both have an attempt {number}",
                hint=f"what was trained here stays a run of its own with "
                f"'mmrun sync {output_dir} --as_new_run'",
            )


def _waiting_records(folder: Path) -> Mapping[int, AttemptRecord]:
    """Return the records that wait: of attempts that were offline, or whose end was not told."""
    records = [
        AttemptRecord.from_json(file.read_bytes())
        for path, file in waiting_artifacts(folder).items()
        if is_record(path)
    ]
    return {record.attempt: record for record in records}
