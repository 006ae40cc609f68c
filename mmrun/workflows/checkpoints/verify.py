"""What ``mmrun checkpoints verify`` does: compare every byte with its digest, here and there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrun.checkpoints.entry import Entry
from mmrun.checkpoints.remote import NO_MANIFEST, RemoteCheckpoints
from mmrun.errors import CheckpointError
from mmrun.progress import progress
from mmrun.workflows.target import Target, find_target

_REMOVED = "removed meanwhile"
"""Said of what a training, or a prune, removed while it was verified; that is no fault."""


def verify_command(words: str, *, tracking_uri: str | None = None) -> str:
    """Read every checkpoint of a folder or run and return what is whole.

    What lies in the store is downloaded for it, file by file, and not kept. What is removed while
    it is verified is said to be, and is not broken.

    Raises:
        CheckpointError: something is not whole; each of these is named.
        TrackingError: the store is out of reach.
    """
    target = find_target(words, uri=tracking_uri)
    whole, removed, broken = [], [], []
    for name, problem in verified(target):
        if problem is None:
            whole.append(f"{name}: whole")
        elif problem == _REMOVED:
            removed.append(f"{name}: {problem}")
        else:
            broken.append(f"{name}: {problem}")
    lines = [*([target.warning] if target.warning else []), *whole, *removed]
    if broken:
        raise CheckpointError(
            broken[0],
            hint="'mmrun train' passes over such a one; whole are: "
            + (", ".join(line.partition(":")[0] for line in whole) or "none"),
            more=tuple(broken[1:]),
        )
    return "\n".join(lines or ["no checkpoint has been saved yet"])


def verified(target: Target) -> Iterator[tuple[str, str | None]]:
    """Yield every checkpoint, with its place, and what is wrong with it."""
    yield from _here(target)
    yield from _there(target)


def _here(target: Target) -> Iterator[tuple[str, str | None]]:
    names = [entry.name for entry in (*target.local.entries(), *target.local.set_aside())]
    for name in progress(names, total=len(names), label="verifying here", unit="checkpoints"):
        problem = target.local.problem(name)
        gone = problem is not None and not target.local.path(name).exists()
        yield f"{name} (here)", _REMOVED if gone else problem


def _there(target: Target) -> Iterator[tuple[str, str | None]]:
    remote = target.remote()
    if remote is None:
        return
    entries = remote.entries()
    label = "verifying in the store"
    known: dict[str, str] = {}
    problems = [
        (entry, entry.problem or _content(remote, entry.name, known))
        for entry in progress(entries, total=len(entries), label=label, unit="checkpoints")
    ]
    broken = [entry for entry, problem in problems if problem is not None]
    gone = _gone(broken, target.remote()) if broken else frozenset()
    for entry, problem in problems:
        yield f"{entry.name} (in the store)", _REMOVED if entry.name in gone else problem


def _gone(entries: Sequence[Entry], fresh: RemoteCheckpoints | None) -> frozenset[str]:
    """Return the names of those that were removed since they were listed."""
    now = {} if fresh is None else {entry.name: entry for entry in fresh.entries()}
    return frozenset(one.name for one in entries if was_removed(one, now.get(one.name)))


def was_removed(before: Entry, now: Entry | None) -> bool:
    """Tell a checkpoint that was removed from a broken one: removing begins with the manifest."""
    if now is None:
        return True
    return before.manifest is not None and now.problem == NO_MANIFEST


def _content(remote: RemoteCheckpoints, name: str, known: dict[str, str]) -> str | None:
    with TemporaryDirectory(prefix="mmrun-verify-") as scratch:
        return remote.content_problem(name, scratch=Path(scratch), known=known)
