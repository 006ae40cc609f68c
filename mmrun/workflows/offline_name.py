"""An offline run gets its place in a store, and the folder the id that the store gives it.

Whoever dies on the way comes back to do the rest: the new id is noted before anything says it.
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
from mmrun.errors import UsageError
from mmrun.files import write_whole
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.offline_store import NAME, OfflineRun, waits
from mmrun.tracking.run_file import read_run_file, write_run_file
from mmrun.tracking.store import RunStore
from mmrun.workflows.ending import read_ending, write_ending
from mmrun.workflows.output_folder import AVERAGE
from mmrun.workflows.records import (
    DESCRIPTION,
    FOLDER,
    START_TAG,
    kept_records,
)

logger = logging.getLogger(__name__)

_MADE_TAG = "mmrun.offline"
"""The id that a run had while no server knew it."""
_PARTED_TAG = "mmrun.parted_from"
"""The run that another machine went on with meanwhile."""
_OF_THE_FOLDER = ("mmrun.lease.",)
"""Tags and parameters that say who worked in the folder, and nothing of the run."""


def settle(output_dir: Path, store: RunStore) -> str:
    """Give the run of the folder its place in the store, if it has none; return its id there."""
    folder = output_dir / NAME
    waiting = OfflineRun.read(folder)
    if waiting is not None and waiting.unknown and waiting.becomes is None:
        waiting = _made(waiting, folder, store)
    if waiting is not None and waiting.becomes is not None:
        _remove_lost(waiting, store)
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
    nonce = uuid.uuid4().hex
    waiting = replace(waiting, tries=(*waiting.tries, nonce))
    waiting.write(folder)
    tags = {**of_the_run(waiting.tags), START_TAG: nonce, _MADE_TAG: waiting.run_id}
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
    logger.info("run %s was made for what was trained offline in %s", run.run_id, folder.parent)
    return made


def _remove_lost(waiting: OfflineRun, store: RunStore) -> None:
    """Remove the runs whose makers died before anybody knew of them."""
    for nonce in waiting.tries:
        for run in store.find(experiment_id=waiting.experiment_id, tags={START_TAG: nonce}):
            if run.run_id != waiting.becomes:
                store.delete(run.run_id)


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


def of_the_run(values: Mapping[str, str]) -> dict[str, str]:
    """Return the tags or parameters that are to be told of a run."""
    return {
        key: value
        for key, value in values.items()
        if not key.startswith(_OF_THE_FOLDER) and key not in {DESCRIPTION, START_TAG}
    }
