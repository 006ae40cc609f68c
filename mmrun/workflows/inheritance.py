"""What a fork takes over from the run that it begins from: a checkpoint, and the history up to it.

The source is only read. The checkpoint is brought into a scratch folder first; when the new run has
been made it becomes that run's own, with the history in it as points that are still to be sent. So
whoever finds it, here or in the store, has all that the fork needs.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mmrun import faults
from mmrun.checkpoints.archive import Archive
from mmrun.checkpoints.entry import folder_name
from mmrun.checkpoints.found import Found
from mmrun.checkpoints.local import LocalCheckpoints, not_saved
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.errors import CheckpointError
from mmrun.tracking.pending import read_pending, write_pending
from mmrun.tracking.run_file import read_run_file
from mmrun.tracking.store import Point
from mmrun.workflows.past import read_logged, read_past
from mmrun.workflows.place import Place
from mmrun.workflows.target import NOWHERE
from mmrun.workflows.which_fork import Origin

logger = logging.getLogger(__name__)

SCRATCH = ".fork"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What was read from the source, and is not the fork's own yet."""

    manifest: Manifest
    """Of the source's checkpoint."""
    history: Sequence[Point]


def bring(place: Place, origin: Origin, *, only_look: bool) -> tuple[Found, Path | None]:
    """Find the source's checkpoint and, unless ``only_look``, put a verified copy in the scratch.

    Raises:
        CheckpointError: there is none like that, or none is whole.
    """
    scratch = LocalCheckpoints(place.output_dir / SCRATCH)
    remote = RemoteCheckpoints(place.store.artifacts(origin.run_id))
    archive = Archive(scratch, remote, run_id=origin.run_id)
    source = place.store.read(origin.run_id)
    lineage = read_past(place.store, source, None).lineage
    with _said_if_on_disk_only(archive, origin):
        if only_look:
            return archive.resolve(origin.reference, lineage=lineage), None
        found, folder = archive.obtain(origin.reference, lineage=lineage)
    if found.where == "path" and found.manifest is not None:
        folder = _adopted(folder, found.manifest, scratch)
    faults.reach("fork.brought")
    return found, folder


@contextmanager
def _said_if_on_disk_only(archive: Archive, origin: Origin) -> Iterator[None]:
    """Name the way that is left where the source keeps its checkpoints out of the store."""
    try:
        yield
    except CheckpointError as error:
        if origin.reference.path is not None or any(archive.survey()):
            raise
        raise CheckpointError(
            f"the store has no checkpoint of run {origin.run_id}",
            hint="if they stay on disk, name one: --resume_from_checkpoint FOLDER",
        ) from error


def _adopted(folder: Path, manifest: Manifest, scratch: LocalCheckpoints) -> Path:
    """Link the files of a folder that the user named, so that the fork has its own."""
    copy = scratch.path(folder_name(manifest.step))
    shutil.rmtree(copy, ignore_errors=True)
    scratch.folder.mkdir(parents=True, exist_ok=True)
    scratch.adopt(folder, manifest, to=copy)
    return copy


def inheritance(place: Place, found: Found | None, folder: Path | None) -> Inheritance | None:
    """Return what belongs to a checkpoint that is another run's; None for one of the own run.

    Without a ``folder`` the history is left out: nobody will need it.
    """
    manifest = found.manifest if found is not None else None
    own = place.run.run_id if place.run is not None else None
    if found is None or manifest is None or manifest.run_id == own:
        return None
    if folder is None:
        return Inheritance(manifest=manifest, history=())
    source = place.store.read(manifest.run_id)
    logged = read_logged(place.store, source, journal=_journal_beside(found))
    logged = replace(logged, points=[*logged.points, *read_pending(folder)])
    history = [p for p in logged.effective(until=manifest.attempt) if p.step <= manifest.step]
    return Inheritance(manifest=manifest, history=history)


def _journal_beside(found: Found) -> Path:
    """Return the journal of the output folder that a checkpoint lies in, if it lies in one."""
    above = found.path.parents if found.where == "path" and found.path is not None else ()
    output_dir = next((folder.parent for folder in above if folder.name == "train"), None)
    run_file = read_run_file(output_dir) if output_dir is not None else None
    if output_dir is None or run_file is None or found.manifest is None:
        return NOWHERE.folder
    return output_dir / "journal" if run_file.run_id == found.manifest.run_id else NOWHERE.folder


def make_own(
    inherited: Inheritance, folder: Path, *, place: Place, attempt: int
) -> tuple[Found, Path]:
    """Make the copy in ``folder`` the first checkpoint of the new run, with the history in it."""
    source = inherited.manifest
    local = LocalCheckpoints(place.output_dir / "train", run_id=place.run_id)
    partial = local.partial(source.step)
    try:
        partial.rmdir()
        folder.rename(partial)
        write_pending(partial, inherited.history)
    except OSError as error:
        raise not_saved(source.step, local.folder, error) from error
    manifest = local.finish(
        partial,
        source.model_copy(update={"run_id": place.run_id, "attempt": attempt}),
        constant={entry.path for entry in source.files if entry.shared},
    )
    path = local.path(folder_name(manifest.step))
    own = Found(name=path.name, step=manifest.step, manifest=manifest, where="local", path=path)
    return own, path


def remove_scratch(output_dir: Path) -> None:
    """Remove what was brought and is not needed any more, also by an earlier process that died."""
    shutil.rmtree(output_dir / SCRATCH, ignore_errors=True)
