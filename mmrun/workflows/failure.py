"""What is kept of a failure: ``error.txt`` while the run is FAILED, and one file an attempt."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from mmrun.errors import TrackingError
from mmrun.tracking.attempts import AttemptRecord
from mmrun.tracking.store import RunStore
from mmrun.workflows.records import FOLDER

logger = logging.getLogger(__name__)

ERROR = "error.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """All that helps to find out what went wrong."""

    problem: str
    hint: str
    trace: str
    record: AttemptRecord
    step: int
    """The last one that was done."""
    time_ms: int
    resumes_from: int | None
    """The step of the checkpoint that the next attempt takes; None where there is none."""

    @property
    def again(self) -> str:
        """How to go on."""
        if self.resumes_from is None:
            return "the same command begins again at step 0: nothing was saved yet"
        return f"the same command goes on from checkpoint-{self.resumes_from}"

    def text(self) -> str:
        """Return it for ``error.txt``."""
        moment = datetime.fromtimestamp(self.time_ms / 1000, tz=UTC)
        facts = {
            "error": self.problem,
            "try": self.hint,
            "run": self.record.run_id,
            "attempt": str(self.record.attempt),
            "step": f"{self.step} (the last that was done)",
            "host": f"{self.record.host}, process {self.record.pid}",
            "time": f"{moment:%Y-%m-%d %H:%M:%S} UTC",
            "resume": self.again,
        }
        lines = [f"{name + ':':<9}{value}" for name, value in facts.items() if value]
        return "\n".join([*lines, "", self.trace])


def save_error(store: RunStore, record: AttemptRecord, text: str, *, newest: bool) -> None:
    """Store what ended an attempt; ``error.txt`` is that of the newest one."""
    artifacts = store.artifacts(record.run_id)
    content = text.encode(errors="backslashreplace")  # it may name a file whose name is no UTF-8
    artifacts.write(f"{FOLDER}/{record.attempt}.{ERROR}", content)
    if newest:
        artifacts.write(ERROR, content)


def forget_error(store: RunStore, run_id: str) -> None:
    """Remove ``error.txt``: the run goes on, or is done. The attempt's own copy stays."""
    try:
        store.artifacts(run_id).delete(ERROR)
    except TrackingError as error:
        logger.warning("%s of an earlier attempt stays in the run: %s", ERROR, error)
