"""Checkpoints in a run's artifacts: files first, manifest last; without it they do not exist."""

import logging
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmrun import faults, files
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import Entry, folder_name, parse_name
from mmrun.checkpoints.manifest import MANIFEST, Manifest
from mmrun.checkpoints.policy import Saved
from mmrun.errors import CheckpointError, TrackingError
from mmrun.progress import progress
from mmrun.tracking.store import ArtifactStore, UnreachableError

logger = logging.getLogger(__name__)

ROOT = "checkpoints"
NO_MANIFEST = "its upload never finished"


class RemoteCheckpoints:
    """The folder ``checkpoints/`` among a run's artifacts.

    Every method lets the store's ``TrackingError`` pass: out of reach is never "not there".
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._read: dict[str, Entry] = {}  # a manifest is never replaced, so it is read once
        self._cannot_delete = False

    def entries(self) -> Sequence[Entry]:
        """Return every folder with a checkpoint's name, newest first; reads only manifests."""
        names = {
            name: parsed
            for artifact in self._artifacts.list(ROOT)
            if artifact.is_folder
            and (parsed := parse_name(name := artifact.path.rpartition("/")[2]))
        }
        newest_first = sorted(names, key=lambda name: (names[name][0], names[name][1] or 0))
        return [self._entry(name) for name in reversed(newest_first)]

    def _entry(self, name: str) -> Entry:
        if name in self._read:
            return self._read[name]
        step, _ = parse_name(name) or (0, None)
        try:
            manifest = self._manifest(name)
        except CheckpointError as error:
            return Entry(name=name, step=step, manifest=None, problem=str(error))
        if manifest is None:
            return Entry(name=name, step=step, manifest=None, problem=NO_MANIFEST)
        if manifest.step != step:
            problem = f"its manifest is of step {manifest.step}"
            return Entry(name=name, step=step, manifest=None, problem=problem)
        self._read[name] = Entry(name=name, step=step, manifest=manifest)
        return self._read[name]

    def _manifest(self, name: str) -> Manifest | None:
        content = self._artifacts.read(f"{ROOT}/{name}/{MANIFEST}")
        return None if content is None else Manifest.from_json(content)

    def name_for(self, manifest: Manifest) -> tuple[str, bool]:
        """Return the name to store ``manifest`` under, and whether it stands there already."""
        plain = folder_name(manifest.step)
        for name in (plain, f"{plain}.a{manifest.attempt}"):
            content = self._artifacts.read(f"{ROOT}/{name}/{MANIFEST}")
            if content is None:
                return name, False
            if content.decode(errors="replace") == manifest.to_json():
                return name, True
        raise CheckpointError(
            f"the store has another checkpoint of step {manifest.step}, attempt {manifest.attempt}"
        )

    def upload(self, folder: Path) -> str:
        """Store a whole local checkpoint and return its name there; safe to repeat."""
        manifest = manifests.read(folder)
        name, stands = self.name_for(manifest)
        if stands:
            return name
        problem = manifests.problem_with(folder, manifest, digests=False)
        if problem is not None:
            raise CheckpointError(f"{folder} cannot be sent: {problem}")
        target = f"{ROOT}/{name}"
        self._clear_strays(target, wanted={entry.path for entry in manifest.files})
        for entry in manifest.files:
            parent = Path(entry.path).parent.as_posix()
            to = target if parent == "." else f"{target}/{parent}"
            self._artifacts.upload(folder / entry.path, to=to)
        faults.reach("upload.files", step=manifest.step)
        self._artifacts.upload(folder / MANIFEST, to=target)
        faults.reach("upload.manifest", step=manifest.step)
        return name

    def _clear_strays(self, target: str, *, wanted: set[str]) -> None:
        """Delete what a dead upload left under ``target`` and this one will not replace."""
        for path in self._sizes(target):
            if path not in wanted:
                self._delete(f"{target}/{path}")

    def _sizes(self, root: str, *, below: str = "") -> dict[str, int | None]:
        sizes: dict[str, int | None] = {}
        for artifact in self._artifacts.list(f"{root}/{below}".rstrip("/")):
            path = artifact.path.removeprefix(f"{root}/")
            if artifact.is_folder:
                sizes |= self._sizes(root, below=path)
            else:
                sizes[path] = artifact.size
        return sizes

    def problem(self, name: str, manifest: Manifest) -> str | None:
        """Compare names and sizes with the manifest; contents are verified on ``restore``."""
        sizes = self._sizes(f"{ROOT}/{name}")
        for entry in manifest.files:
            if entry.path not in sizes:
                return f"{entry.path} is missing"
            size = sizes[entry.path]
            # Some stores list an empty file without a size.
            if size is not None and (mismatch := manifests.size_mismatch(size, entry)):
                return f"{entry.path} {mismatch}"
        return None

    def restore(self, name: str, *, to: Path) -> Manifest:
        """Download a checkpoint, verify it, and only then give it the name ``to``."""
        manifest = self._manifest(_checked(name))
        if manifest is None:
            raise CheckpointError(f"the store has no checkpoint {name}")
        if to.exists():
            raise CheckpointError(f"{to} exists; a checkpoint is never written twice")
        scratch = to.with_name(f".{to.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for entry in progress(manifest.files, total=len(manifest.files), label=f"restoring {name}"):
            target = scratch / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            self._download(f"{ROOT}/{name}/{entry.path}", to=target)
        problem = manifests.problem_with(scratch, manifest)
        if problem is not None:
            shutil.rmtree(scratch, ignore_errors=True)
            raise CheckpointError(f"{name} in the store is not whole: {problem}")
        manifests.write(scratch, manifest)
        files.flush_tree(scratch)
        scratch.rename(to)
        files.flush_folder(to.parent)
        return manifest

    def _download(self, path: str, *, to: Path) -> None:
        try:
            self._artifacts.download(path, to=to)
        except UnreachableError:
            raise
        except TrackingError:
            parent, _, name = path.rpartition("/")
            listed = {artifact.path.rpartition("/")[2] for artifact in self._artifacts.list(parent)}
            if name in listed:
                raise
            to.unlink(missing_ok=True)  # the store answers and has no such file: verified below

    def drop(self, names: Iterable[str]) -> Sequence[str]:
        """Delete checkpoints, each one's manifest first; return those that are gone."""
        gone = []
        for name in names:
            target = f"{ROOT}/{_checked(name)}"
            if self._delete(f"{target}/{MANIFEST}"):
                self._read.pop(name, None)
                self._delete(target)
                gone.append(name)
        return gone

    def _delete(self, path: str) -> bool:
        try:
            self._artifacts.delete(path)
        except UnreachableError:
            raise
        except TrackingError as error:
            if not self._cannot_delete:
                logger.warning("the store did not delete %s, old checkpoints stay: %s", path, error)
            self._cannot_delete = True
            return False
        return True

    def list(self) -> list[tuple[Saved, Manifest]]:
        """Return the checkpoints that exist in the store, newest first."""
        return [
            (saved, entry.manifest)
            for entry in self.entries()
            if entry.manifest and (saved := entry.saved)
        ]


def _checked(name: str) -> str:
    if parse_name(name) is None:
        raise ValueError(f"{name!r} is no checkpoint's name")
    return name
