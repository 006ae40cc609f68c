"""How an attempt ended: written down on this disk first, since the server may be away just then.

The file ``journal/ended.json`` is there for as long as the store was not told.
"""

import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mmrun import faults
from mmrun.files import write_whole
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.store import RunStatus, RunStore
from mmrun.workflows.failure import save_error
from mmrun.workflows.records import (
    correct_attempt,
    keep_record,
    last_record,
    save_record,
    say_state,
)

logger = logging.getLogger(__name__)

_NAME = "ended.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is to be said about an attempt that is over."""

    record: AttemptRecord
    status: RunStatus
    error: str = ""
    """What failed, as `error.txt` has it."""


def say_ending(store: RunStore, journal: Path, ending: Ending) -> None:
    """Write ``ending`` down and tell the store."""
    keep_ending(journal, ending)
    faults.reach("ended")
    tell(store, ending)
    with suppress(OSError):  # telling it twice does no harm
        (journal / _NAME).unlink(missing_ok=True)


def keep_ending(journal: Path, ending: Ending) -> None:
    """Write ``ending`` down; a full disk does not keep it from being told."""
    try:
        keep_record(journal, ending.record)
        write_ending(journal, ending)
    except OSError as error:
        logger.warning("how the attempt ended could not be written to %s: %s", journal, error)


def write_ending(journal: Path, ending: Ending) -> None:
    """Keep ``ending`` until it is delivered."""
    content = {
        "status": ending.status,
        "error": ending.error,
        "record": json.loads(ending.record.to_json()),
    }
    write_whole(journal / _NAME, json.dumps(content, indent=1) + "\n")


def read_ending(journal: Path) -> Ending | None:
    """Return the ending that the store was not told, if there is one."""
    path = journal / _NAME
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    record = AttemptRecord.from_json(json.dumps(content["record"]))
    return Ending(record=record, status=content["status"], error=content["error"])


def deliver_ending(store: RunStore, journal: Path) -> Ending | None:
    """Tell the store how the last attempt of this folder ended, if it was not told; return that.

    Where another machine went on meanwhile, only the attempt's own record is put right.
    """
    ending = read_ending(journal)
    if ending is not None:
        tell(store, ending)
        (journal / _NAME).unlink()
    return ending


def tell(store: RunStore, ending: Ending) -> None:
    """Say in the store how an attempt ended; if a newer one began since, of that attempt only."""
    record, ended = ending.record, ending.record.ended or ""
    newest = last_record(store, record.run_id)
    save_record(store, record)
    is_newest = newest is None or newest.attempt <= record.attempt
    if ending.error:
        save_error(store, record, ending.error, newest=is_newest)
    if is_newest:
        say_state(store, record, ended)
        store.set_status(record.run_id, ending.status, ended_ms=record.ended_ms)
    else:
        correct_attempt(store, record, ended)
