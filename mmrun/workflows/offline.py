"""A training that was told not to ask its server, and how the server is told of it later.

What waits is told in an order that can be broken off anywhere: a run is made for it where it has
none, the folder takes the id of that run, then records, then (by the caller) points and
checkpoints, and last how it stands. Whoever begins again finds what is still to be told.
"""

import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mmrun import faults
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import MANIFEST
from mmrun.checkpoints.renaming import rename_run
from mmrun.config.loading import flat_tree, load_experiment
from mmrun.config.masking import remember, without_secrets
from mmrun.config.schema import Experiment
from mmrun.errors import TrackingError, UsageError
from mmrun.files import write_whole
from mmrun.tracking.address import split_login, tracking_uri
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.history import merged
from mmrun.tracking.journal import Journal
from mmrun.tracking.lease import Lease, folder_lock
from mmrun.tracking.offline_artifacts import waiting_artifacts
from mmrun.tracking.offline_store import NAME, OfflineRun, OfflineStore, forget
from mmrun.tracking.run_file import NAME as RUN_FILE
from mmrun.tracking.run_file import RunFile, read_run_file, write_run_file
from mmrun.tracking.sender import Sender
from mmrun.tracking.store import RunStore
from mmrun.tracking.tail import read_left
from mmrun.workflows.ending import read_ending, write_ending
from mmrun.workflows.failure import forget_error
from mmrun.workflows.killed import KILLED
from mmrun.workflows.output_folder import AVERAGE
from mmrun.workflows.over import is_open, say_over
from mmrun.workflows.past import read_past
from mmrun.workflows.records import (
    DESCRIPTION,
    FOLDER,
    START_TAG,
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
_MADE_TAG = "mmrun.offline"
"""The id that a run had while no server knew it."""
_PARTED_TAG = "mmrun.parted_from"
"""The run that another machine went on with meanwhile."""
_OF_THE_FOLDER = ("mmrun.lease.",)
"""Tags and parameters that say who worked in the folder, and nothing of the run."""


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
    # All that lies here is an earlier attempt's, as it is for the next one.
    journal = Journal(output_dir / "journal", attempt=past.attempts + 1)
    with Sender(store, run_id, journal, lineage=past.lineage) as sender:
        if not sender.drain(PATIENCE_S):
            raise TrackingError(
                f"the points of run {run_id} that were logged offline could not be sent",
                hint=f"when the server answers again: the same command, or mmrun sync {output_dir}",
            )


def settle(output_dir: Path, store: RunStore) -> str:
    """Give the run of the folder its place in the store, if it has none; return its id there."""
    folder = output_dir / NAME
    waiting = OfflineRun.read(folder)
    if waiting is not None and waiting.unknown and waiting.becomes is None:
        waiting = _made(waiting, folder, store)
    if waiting is not None and waiting.becomes is not None:
        _take_name(output_dir, waiting, becomes=waiting.becomes)
    run_file = read_run_file(output_dir)
    if run_file is None:
        raise UsageError(
            f"{output_dir} has no run.json: it does not say which run it belongs to",
            hint="run 'mmrun train --offline' again, which writes it",
        )
    return run_file.run_id


def part_ways(output_dir: Path) -> None:
    """Make what was done offline a run of its own, with all that this folder knows of it.

    Raises:
        UsageError: nothing was done offline that waits here.
    """
    folder, journal = output_dir / NAME, output_dir / "journal"
    waiting = OfflineRun.read(folder)
    if waiting is None or not waits(output_dir):
        raise UsageError(
            f"{output_dir} has nothing that was trained offline and waits",
            hint="leave --as_new_run out",
        )
    if waiting.unknown:
        return  # it is one already
    kept = kept_records(journal)
    for path, content in kept.items():
        if not (folder / "artifacts" / path).exists():
            write_whole(folder / "artifacts" / path, content)
    for mark in journal.glob("*.sent"):
        mark.unlink()  # what the other run has, the new one has not
    first = min((AttemptRecord.from_json(text) for text in kept.values()), key=_number)
    settings = {f"cfg.{key}": value for key, value in flat_tree(first.config).items()}
    replace(
        waiting,
        unknown=True,
        experiment=load_experiment(None, base=first.config).tracking.experiment,
        started_ms=first.started_ms,
        params={**waiting.params, **settings},
        tags={**waiting.tags, _PARTED_TAG: waiting.run_id},
    ).write(folder)


def _number(record: AttemptRecord) -> int:
    return record.attempt


def _made(waiting: OfflineRun, folder: Path, store: RunStore) -> OfflineRun:
    """Make the run. Who dies between the answer and the note of it leaves one that is removed."""
    lost, nonce = waiting.tries, uuid.uuid4().hex
    waiting = replace(waiting, tries=(*lost, nonce))
    waiting.write(folder)
    tags = {**_of_the_run(waiting.tags), START_TAG: nonce, _MADE_TAG: waiting.run_id}
    run = store.create(
        experiment=waiting.experiment,
        experiment_id=_experiment_there(waiting, store),
        name=waiting.name,
        tags=tags,
        started_ms=waiting.started_ms,
    )
    faults.reach("offline.made")
    made = replace(
        waiting, becomes=run.run_id, tracking_uri=store.uri, experiment_id=run.experiment_id
    )
    made.write(folder)
    faults.reach("offline.noted")
    for one in lost:  # who made these died before anybody knew of them
        for left in store.find(experiment_id=run.experiment_id, tags={START_TAG: one}):
            store.delete(left.run_id)
    logger.info("run %s was made for what was trained offline in %s", run.run_id, folder.parent)
    return made


def _experiment_there(waiting: OfflineRun, store: RunStore) -> str | None:
    """Return the id of the experiment that was meant: of that very server, and not said anew."""
    anew = os.environ.keys() & {"MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"}
    return None if anew or store.uri != waiting.tracking_uri else waiting.experiment_id or None


def _take_name(output_dir: Path, waiting: OfflineRun, *, becomes: str) -> None:
    """Let everything in the folder say the id that the server gave the run."""
    old = waiting.run_id
    local = LocalCheckpoints(output_dir / "train")
    rename_run(old, becomes, local=local, spool=output_dir / "spool")
    faults.reach("offline.renamed")
    folder = output_dir / NAME
    if (ending := read_ending(output_dir / "journal")) is not None:
        record = ending.record.of_run(becomes, formerly=old)
        write_ending(output_dir / "journal", replace(ending, record=record))
    for path in _records(output_dir):
        record = AttemptRecord.from_json(path.read_bytes())
        write_whole(path, record.of_run(becomes, formerly=old).to_json())
    for average in (output_dir / AVERAGE, folder / "artifacts" / AVERAGE):
        if (average / MANIFEST).exists():
            manifest = manifests.read(average)
            members = tuple(name.replace(old, becomes) for name in manifest.average_of)
            changed = {"run_id": becomes, "average_of": members}
            manifests.write(average, manifest.model_copy(update=changed))
    run_file = read_run_file(output_dir)
    if run_file is not None:
        write_run_file(
            output_dir,
            replace(
                run_file,
                run_id=becomes,
                tracking_uri=waiting.tracking_uri,
                experiment_id=waiting.experiment_id,
            ),
        )
    replace(waiting, run_id=becomes, becomes=None, unknown=False, tries=()).write(folder)


def _records(output_dir: Path) -> list[Path]:
    kept = (output_dir / "journal").glob("attempt-*.json")
    waiting = (output_dir / NAME / "artifacts" / FOLDER).glob("*.json")
    return sorted([*kept, *waiting])


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
    params = {k: v for k, v in _of_the_run(waiting.params).items() if k not in known}
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
        store.set_tags(waiting.run_id, _of_the_run(waiting.tags))
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


def _of_the_run(values: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in values.items()
        if not key.startswith(_OF_THE_FOLDER) and key != DESCRIPTION
    }
