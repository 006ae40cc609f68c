"""Checkpoints in the store that must stay: pinned by a user, or being restored right now.

A pin is the file ``checkpoints/pins/NAME``. Whoever downloads a checkpoint leaves the file
``checkpoints/restoring/NAME.<nonce>`` for that time, so that no retention takes it away meanwhile.
"""

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from mmrun.checkpoints.entry import parse_name
from mmrun.errors import TrackingError
from mmrun.tracking.process import ProcessId, is_alive, this_process
from mmrun.tracking.store import ArtifactStore

logger = logging.getLogger(__name__)

PINS = "checkpoints/pins"
RESTORING = "checkpoints/restoring"
_FORGOTTEN_S = 24 * 3600
"""A mark of another machine that is older is of a process that died."""


class Holds:
    """What keeps retention from a checkpoint."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    def on(self, name: str) -> bool:
        """Whether ``name`` is to stay: it is pinned, or some process downloads it."""
        return name in self.pinned() or name in self.being_restored()

    def pinned(self) -> frozenset[str]:
        """Return the names that a user wants to keep."""
        return frozenset(name for name in self._names(PINS) if parse_name(name))

    def pin(self, name: str) -> None:
        """Keep ``name`` until it is unpinned."""
        said = {"host": this_process().host, "at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        self._artifacts.write(f"{PINS}/{name}", json.dumps(said).encode())

    def unpin(self, name: str) -> None:
        """Leave ``name`` to retention again."""
        self._artifacts.delete(f"{PINS}/{name}")

    @contextmanager
    def restoring(self, name: str) -> Iterator[None]:
        """Mark ``name`` while the block downloads it, where the store can be written."""
        mark = f"{RESTORING}/{name}.{uuid.uuid4().hex[:12]}"
        said = {"process": asdict(this_process()), "at_s": time.time()}
        marked = self._tried(lambda: self._artifacts.write(mark, json.dumps(said).encode()))
        try:
            yield
        finally:
            if marked:
                self._tried(lambda: self._artifacts.delete(mark))

    def being_restored(self) -> frozenset[str]:
        """Return the names that some process downloads; marks of dead ones are removed."""
        return frozenset(
            mark.rpartition(".")[0] for mark in self._names(RESTORING) if self._counts(mark)
        )

    def _counts(self, mark: str) -> bool:
        content = self._artifacts.read(f"{RESTORING}/{mark}")
        if content is None:
            return False  # done meanwhile
        try:
            said = json.loads(content)
            alive = is_alive(ProcessId(**said["process"]))
            age_s = time.time() - float(said["at_s"])
        except (ValueError, KeyError, TypeError):
            return True
        if alive is False or (alive is None and age_s > _FORGOTTEN_S):
            self._tried(lambda: self._artifacts.delete(f"{RESTORING}/{mark}"))
            return False
        return True

    def _names(self, folder: str) -> list[str]:
        return [
            artifact.path.rpartition("/")[2]
            for artifact in self._artifacts.list(folder)
            if not artifact.is_folder
        ]

    def _tried(self, request: Callable[[], None]) -> bool:
        try:
            request()
        except TrackingError as error:
            logger.debug("a mark was not changed: %s", error)
            return False
        return True
