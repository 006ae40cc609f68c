"""What the store knows of a run's attempts: their records, and the tags for people."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmrun.errors import TrackingError
from mmrun.files import write_whole
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.attempts_table import Row, described
from mmrun.tracking.replay import TAG
from mmrun.tracking.store import RunStore

logger = logging.getLogger(__name__)

FOLDER = "attempts"
DESCRIPTION = "mlflow.note.content"
START_TAG = "mmrun.start"
"""A word that is noted in the folder before a run is made: a lost one is found by it."""


def say_state(store: RunStore, record: AttemptRecord, state: str) -> None:
    """Tell people how the run stands, as its last attempt knows it: tags, and the description."""
    store.set_tags(record.run_id, run_tags(record, state))
    say_attempts(store, record.run_id, record.rows)


def say_attempts(store: RunStore, run_id: str, rows: Sequence[Row]) -> None:
    """Put the table of attempts into the run's description, beside what the user wrote there."""
    description = store.read(run_id).tags.get(DESCRIPTION, "")
    new = described(description, rows)
    if new != description:
        store.set_tags(run_id, {DESCRIPTION: new})


def correct_attempt(store: RunStore, record: AttemptRecord, state: str) -> None:
    """Tell people what became of an attempt of which it was not known, however old it is."""
    store.set_tags(record.run_id, summary(record, state))
    say_attempts(store, record.run_id, [one.row for one in all_records(store, record.run_id)])


def run_tags(record: AttemptRecord, state: str) -> dict[str, str]:
    """Return the tags that tell people how the run stands, as its last attempt knows it."""
    tags = {
        "mmrun.status": state,
        "mmrun.attempts": str(record.attempt),
        **summary(record, state),
    }
    if record.data_version is not None:
        tags["mmrun.data"] = record.data_version
    if record.replay is not None:
        tags[TAG] = record.replay
    return tags


def summary(record: AttemptRecord, state: str) -> dict[str, str]:
    """Return the tag that tells people what became of an attempt."""
    span = f"from step {record.from_step}"
    if record.to_step is not None:
        span = f"steps {record.from_step} to {record.to_step}"
    changed = "; ".join(f"{key}: {old} → {new}" for key, (old, new) in record.overrides.items())
    return {f"mmrun.attempt.{record.attempt}": f"{span}, {state}{changed and f'; {changed}'}"}


def save_record(store: RunStore, record: AttemptRecord) -> None:
    """Store ``attempts/<k>.json``, replacing an earlier state of it."""
    path = f"{FOLDER}/{record.attempt}.json"
    store.artifacts(record.run_id).write(path, record.to_json().encode())


def keep_record(journal: Path, record: AttemptRecord) -> None:
    """Keep the record on this disk too, for a time when the store cannot be asked."""
    write_whole(journal / f"attempt-{record.attempt}.json", record.to_json())


def kept_records(journal: Path) -> dict[str, bytes]:
    """Return the records on this disk, by the path that they have in the store."""
    found = {path: path.stem.removeprefix("attempt-") for path in journal.glob("attempt-*.json")}
    return {
        f"{FOLDER}/{number}.json": path.read_bytes()
        for path, number in found.items()
        if number.isdigit()
    }


def is_record(path: str) -> bool:
    """Whether the artifact ``path`` is the record of an attempt, and no other file of one."""
    folder, _, name = path.rpartition("/")
    return folder == FOLDER and name.endswith(".json") and name.removesuffix(".json").isdigit()


def last_record(store: RunStore, run_id: str) -> AttemptRecord | None:
    """Return the record of the newest attempt, or None where there was none."""
    return next(_newest_first(store, run_id), None)


def all_records(store: RunStore, run_id: str) -> Sequence[AttemptRecord]:
    """Return the records of all attempts, the oldest first."""
    return list(_newest_first(store, run_id))[::-1]


def _newest_first(store: RunStore, run_id: str) -> Iterator[AttemptRecord]:
    """Read one record after the other.

    One that cannot be read is passed over: a damaged record must not stop the run for ever.
    """
    artifacts = store.artifacts(run_id)
    paths = [entry.path for entry in artifacts.list(FOLDER) if is_record(entry.path)]
    for number in sorted((int(Path(path).stem) for path in paths), reverse=True):
        text = artifacts.read(f"{FOLDER}/{number}.json")
        try:
            yield AttemptRecord.from_json(text or "")
        except TrackingError as error:
            logger.warning("attempt %d of run %s: %s", number, run_id, error)
