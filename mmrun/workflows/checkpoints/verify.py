"""What ``mmrun checkpoints verify`` does: compare every byte with its digest, here and there."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.errors import CheckpointError
from mmrun.progress import progress
from mmrun.workflows.checkpoints.target import Target, find_target


def verify_command(words: str, *, tracking_uri: str | None = None) -> str:
    """Read every checkpoint of a folder or run and return what is whole.

    What lies in the store is downloaded for it, file by file, and not kept.

    Raises:
        CheckpointError: something is not whole; each of these is named.
        TrackingError: the store is out of reach.
    """
    target = find_target(words, uri=tracking_uri)
    whole, broken = [], []
    for name, problem in [*_here(target), *_there(target)]:
        if problem is None:
            whole.append(f"{name}: whole")
        else:
            broken.append(f"{name}: {problem}")
    lines = [*([target.warning] if target.warning else []), *whole]
    if broken:
        raise CheckpointError(
            broken[0],
            hint="'mmrun train' passes over such a one; whole are: "
            + (", ".join(line.partition(":")[0] for line in whole) or "none"),
            more=tuple(broken[1:]),
        )
    return "\n".join(lines or ["no checkpoint has been saved yet"])


def _here(target: Target) -> Iterator[tuple[str, str | None]]:
    names = [entry.name for entry in (*target.local.entries(), *target.local.set_aside())]
    for name in progress(names, total=len(names), label="verifying here", unit="checkpoints"):
        yield f"{name} (here)", target.local.problem(name)


def _there(target: Target) -> Iterator[tuple[str, str | None]]:
    remote = target.remote()
    if remote is None:
        return
    entries = remote.entries()
    label = "verifying in the store"
    known: dict[str, str] = {}
    for entry in progress(entries, total=len(entries), label=label, unit="checkpoints"):
        yield f"{entry.name} (in the store)", entry.problem or _content(remote, entry.name, known)


def _content(remote: RemoteCheckpoints, name: str, known: dict[str, str]) -> str | None:
    with TemporaryDirectory(prefix="mmrun-verify-") as scratch:
        return remote.content_problem(name, scratch=Path(scratch), known=known)
