"""Which run a reference or an output folder belongs to, as far as they say it."""

from pathlib import Path

from mmrun.checkpoints.found import manifest_at
from mmrun.checkpoints.manifest import MANIFEST
from mmrun.checkpoints.reference import Reference
from mmrun.tracking.run_file import RunFile
from mmrun.workflows.output_folder import run_of_checkpoints


def is_bare(reference: Reference | None) -> bool:
    """Whether a reference names no run: `latest` is that of the output folder's."""
    return reference is not None and reference.which is not None and reference.run_id is None


def is_plain(reference: Reference | None) -> bool:
    """Whether a folder of another program is meant, from which a new run starts in any case."""
    if reference is None or reference.path is None:
        return False
    return not (reference.path / MANIFEST).exists()


def run_of_reference(reference: Reference | None) -> str | None:
    """Return the run that a reference names itself, or by the manifest in a folder."""
    if reference is None or reference.path is None:
        return reference.run_id if reference is not None else None
    return None if is_plain(reference) else manifest_at(reference.path).run_id


def run_of_folder(folder: Path | None, run_file: RunFile | None) -> str | None:
    """Return the run that an output folder belongs to."""
    if run_file is not None:
        return run_file.run_id
    return run_of_checkpoints(folder) if folder is not None else None
