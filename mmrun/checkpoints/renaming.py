"""Checkpoints of a run that got another id: a server names the runs that it makes."""

from collections.abc import Iterator
from pathlib import Path

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.spool import Spool


def rename_run(old: str, new: str, *, local: LocalCheckpoints, spool: Path) -> None:
    """Make the checkpoints of the run ``old``, here and in the spool, those of ``new``.

    Whoever dies half-way calls it again: what has the new id already is left alone.
    """
    for folder, manifest in _of(old, local=local, spool=spool):
        manifests.write(folder, manifest.model_copy(update={"run_id": new}))
    before, after = spool / old, spool / new
    if not before.is_dir():
        return
    after.mkdir(parents=True, exist_ok=True)
    for path in sorted(before.iterdir()):
        path.replace(after / path.name)
    before.rmdir()


def _of(run_id: str, *, local: LocalCheckpoints, spool: Path) -> Iterator[tuple[Path, Manifest]]:
    entries = [*local.entries(), *local.set_aside()]
    found = [(local.path(entry.name), entry.manifest) for entry in entries]
    found += list(Spool(spool, run_id=run_id).entries())
    for folder, manifest in found:
        if manifest is not None and manifest.run_id == run_id:
            yield folder, manifest
