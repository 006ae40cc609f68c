"""Uploads not yet done: hard links that survive rotation, this process, and a reboot."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmrun import files
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import folder_name, parse_name
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Saved
from mmrun.errors import CheckpointError


class Spool:
    """The folder ``OUTPUT_DIR/spool``; an entry appears whole and disappears whole.

    Names are ``RUN_ID/checkpoint-N.a<k>``. With ``run_id`` only that run's entries count: what
    another run left is for its own artifacts.
    """

    def __init__(self, folder: Path, *, run_id: str | None = None) -> None:
        self.folder = folder
        self._run_id = run_id

    def tidy(self) -> None:
        """Remove what a dead process left half linked or half removed."""
        for path in self._children():
            if path.name.startswith(".checkpoint-") or not _usable(path):
                shutil.rmtree(path, ignore_errors=True)

    def add(self, checkpoint: Path, manifest: Manifest) -> None:
        """Link the files of a whole checkpoint; one that is there already is left alone."""
        name = f"{folder_name(manifest.step)}.a{manifest.attempt}"
        final = self.folder / manifest.run_id / name
        if final.exists():
            return
        scratch = final.with_name(f".{name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        for file in [entry.path for entry in manifest.files] + [manifests.MANIFEST]:
            files.link_or_copy(checkpoint / file, scratch / file)
        files.flush_tree(scratch)
        scratch.rename(final)
        files.flush_folder(final.parent)

    def remove(self, name: str) -> None:
        """Forget an upload that is done, or that is no longer wanted."""
        path = self.folder / name
        doomed = path.with_name(f".{path.name}.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def entries(self) -> Iterator[tuple[Path, Manifest]]:
        """Yield the folders that wait and their manifests: whole copies of checkpoints."""
        for path in self._children():
            if parse_name(path.name) and _usable(path):
                yield path, manifests.read(path)

    def waiting(self) -> Sequence[Saved]:
        """Return what is to be sent, oldest first."""
        found = [
            Saved.of(manifest, name=path.relative_to(self.folder).as_posix())
            for path, manifest in self.entries()
        ]
        return sorted(found, key=lambda one: one.key)

    def _children(self) -> Iterator[Path]:
        if not self.folder.is_dir():
            return
        for run in sorted(self.folder.iterdir()):
            if run.is_dir() and self._run_id in (None, run.name):
                yield from sorted(run.iterdir())


def _usable(path: Path) -> bool:
    try:
        manifests.read(path)
    except CheckpointError:
        return False
    return True
