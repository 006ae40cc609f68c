"""A store that is written to only while a run is held.

Whoever works on a run has many writers: points, checkpoints, records, each in a thread of its own.
Here all of them pass one gate.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from mmrun.tracking.lease import Lease
from mmrun.tracking.store import ArtifactStore, RunStore

_WRITING = frozenset({"delete", "log_params", "log_points", "log_table", "set_status", "set_tags"})
_WRITING_FILES = frozenset({"delete", "upload", "write"})


def only_while_held(store: RunStore, lease: Lease) -> RunStore:
    """Return ``store``, each write of which first makes sure of the lease.

    A write raises ``TrackingError`` where the run was taken over, and ``UnreachableError`` where
    that cannot be known.
    """
    return cast("RunStore", _Gate(store, lease, writing=_WRITING))


class _Gate:
    """Passes everything on, what writes only after a look at the lease."""

    def __init__(
        self, behind: RunStore | ArtifactStore, lease: Lease, *, writing: frozenset[str]
    ) -> None:
        self._behind = behind
        self._lease = lease
        self._writing = writing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._behind, name)
        return self._guarded(found) if name in self._writing else found

    def artifacts(self, run_id: str) -> ArtifactStore:
        files = cast("RunStore", self._behind).artifacts(run_id)
        return cast("ArtifactStore", _Gate(files, self._lease, writing=_WRITING_FILES))

    def _guarded(self, write: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(write)
        def after_a_look(*words: Any, **named: Any) -> Any:
            self._lease.confirm()
            return write(*words, **named)

        return after_a_look
