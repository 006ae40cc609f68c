"""What ``mmrun checkpoints verify`` does: compare every byte with its digest, here and there."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrun.checkpoints.entry import Entry
from mmrun.checkpoints.remote import NO_MANIFEST, RemoteCheckpoints
from mmrun.errors import CheckpointError
from mmrun.progress import progress
from mmrun.tracking.lease import pulse
from mmrun.tracking.signs_of_life import life_of, watch
from mmrun.tracking.store import Run
from mmrun.workflows.target import Target, find_target

_REMOVED = "removed meanwhile"
"""Said of what a training, or a prune, removed while it was verified; that is no fault."""
_STORED = "stored meanwhile"
_UNDER_WAY = "its upload is under way"
_WAITS = "its upload waits in the spool"
_NO_FAULTS = (_REMOVED, _STORED, _UNDER_WAY, _WAITS)


def verify_command(words: str, *, tracking_uri: str | None = None) -> str:
    """Read every checkpoint of a folder or run and return what is whole.

    What lies in the store is downloaded for it, file by file, and not kept. What is removed while
    it is verified, or sent by a process that lives, is said to be, and is not broken.

    Raises:
        CheckpointError: something is not whole; each of these is named.
        TrackingError: the store is out of reach.
    """
    target = find_target(words, uri=tracking_uri)
    whole, open_, broken = [], [], []
    for name, problem in verified(target):
        if problem is None:
            whole.append(f"{name}: whole")
        elif problem in _NO_FAULTS:
            open_.append(f"{name}: {problem}")
        else:
            broken.append(f"{name}: {problem}")
    lines = [*([target.warning] if target.warning else []), *whole, *open_]
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
    run = None if target.store is None else target.store.read(target.run_id or "")
    entries = remote.entries()
    label = "verifying in the store"
    known: dict[str, str] = {}
    problems = [
        (entry, entry.problem or _content(remote, entry.name, known))
        for entry in progress(entries, total=len(entries), label=label, unit="checkpoints")
    ]
    broken = [entry for entry, problem in problems if problem is not None]
    excuses = _excuses(target, broken, run) if broken else {}
    for entry, problem in problems:
        yield f"{entry.name} (in the store)", excuses.get(entry.name, problem)


def _excuses(target: Target, entries: Sequence[Entry], run: Run | None) -> Mapping[str, str]:
    """Return by name why some that are not whole are no fault; ``run`` is as it was before."""
    fresh = target.remote()
    now = {} if fresh is None else {entry.name: entry for entry in fresh.entries()}
    excuses = {one.name: _REMOVED for one in entries if was_removed(one, now.get(one.name))}
    unfinished = [one for one in entries if one.problem == NO_MANIFEST and one.name not in excuses]
    stored = {one.name: _STORED for one in unfinished if now[one.name].manifest is not None}
    begun = {target.spool.state(saved.name).begun for saved in target.spool.waiting()}
    waits = {one.name: _WAITS for one in unfinished if one.name in begun}
    left = [one for one in unfinished if one.name not in stored]
    under_way = {one.name: _UNDER_WAY for one in left} if left and _is_at_work(target, run) else {}
    return {**excuses, **waits, **under_way, **stored}


def _is_at_work(target: Target, before: Run | None) -> bool:
    """Tell whether a process that may send checkpoints works on the run."""
    if target.store is None or before is None:
        return False
    now = target.store.read(before.run_id)
    life = life_of(now)
    if life == "unknown":  # verifying took long, perhaps: its heart may have beaten meanwhile
        return pulse(now) != pulse(before) or not watch(target.store, [now])
    return life == "alive"


def was_removed(before: Entry, now: Entry | None) -> bool:
    """Tell a checkpoint that was removed from a broken one: removing begins with the manifest."""
    if now is None:
        return True
    return before.manifest is not None and now.problem == NO_MANIFEST


def _content(remote: RemoteCheckpoints, name: str, known: dict[str, str]) -> str | None:
    with TemporaryDirectory(prefix="mmrun-verify-") as scratch:
        return remote.content_problem(name, scratch=Path(scratch), known=known)
