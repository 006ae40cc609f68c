"""Uploads not yet done: hard links that survive rotation, this process, and a reboot."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from mmrun import files
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import folder_name, parse_name
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Saved
from mmrun.errors import CheckpointError


class Spool:
    """The folder ``OUTPUT_DIR/spool/RUN_ID``; an entry appears whole and disappears whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def tidy(self) -> None:
        """Remove what a dead process left half linked or half removed."""
        for path in self._children():
            if path.name.startswith(".checkpoint-"):
                shutil.rmtree(path, ignore_errors=True)

    def add(self, checkpoint: Path, manifest: Manifest) -> None:
        """Link the files of a whole checkpoint; one that is there already is left alone."""
        final = self.folder / f"{folder_name(manifest.step)}.a{manifest.attempt}"
        if final.exists():
            return
        scratch = final.with_name(f".{final.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        for name in [entry.path for entry in manifest.files] + [manifests.MANIFEST]:
            files.link_or_copy(checkpoint / name, scratch / name)
        files.flush_tree(scratch)
        scratch.rename(final)
        files.flush_folder(self.folder)

    def remove(self, name: str) -> None:
        """Forget an upload that is done, or that is no longer wanted."""
        doomed = self.folder / f".{name}.removed"
        shutil.rmtree(doomed, ignore_errors=True)
        (self.folder / name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def waiting(self) -> Sequence[Saved]:
        """Return what is to be sent, oldest first; what cannot be read is removed."""
        found = []
        for path in self._children():
            if parse_name(path.name) is None:
                continue
            try:
                found.append(Saved.of(manifests.read(path), name=path.name))
            except CheckpointError:  # the checkpoint itself is judged where it lies
                self.remove(path.name)
        return sorted(found, key=lambda one: one.key)

    def _children(self) -> Sequence[Path]:
        return tuple(self.folder.iterdir()) if self.folder.is_dir() else ()


def unsent(folder: Path) -> Sequence[str]:
    """Return, for all runs below ``OUTPUT_DIR/spool``, what has not reached the store."""
    runs = sorted(folder.iterdir()) if folder.is_dir() else []
    return [f"{run.name}@{saved.name}" for run in runs for saved in Spool(run).waiting()]
