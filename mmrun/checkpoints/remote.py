"""Checkpoints in a run's artifacts: files first, manifest last; without it they do not exist."""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from mmrun import faults, files
from mmrun.checkpoints import index as indices
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.at_once import AT_ONCE, MayGoOn, always, at_once, check
from mmrun.checkpoints.entry import Entry, folder_name, parse_name
from mmrun.checkpoints.holds import Holds
from mmrun.checkpoints.index import Index
from mmrun.checkpoints.manifest import MANIFEST, FileEntry, ForeignFormat, Manifest, TornManifest
from mmrun.checkpoints.policy import Saved
from mmrun.errors import CheckpointError, TrackingError
from mmrun.progress import follow
from mmrun.tracking.store import ArtifactStore, UnreachableError

logger = logging.getLogger(__name__)

ROOT = "checkpoints"
SHARED = f"{ROOT}/shared"
NO_MANIFEST = "its upload never finished"
_INDEX = f"{ROOT}/{indices.NAME}"


class RemoteCheckpoints:
    """The folder ``checkpoints/`` among a run's artifacts.

    Reading is for everybody; ``upload``, ``drop`` and ``collect`` are for the holder of the run.
    Those three ask ``may_go_on`` before each request that changes something. Where the answer is
    no (the run is lost, the process is to end) they leave the rest as it is, with ``Stopped``.
    Every method lets the store's ``TrackingError`` pass: out of reach is never "not there".
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self.holds = Holds(artifacts)
        self._artifacts = artifacts
        self._manifests: dict[str, Manifest] = {}  # one is never replaced, so it is read once
        self._left: set[str] = set()  # by another process that may still write there

    # What there is

    def look(self) -> tuple[Sequence[Saved], Sequence[Entry]]:
        """Return the checkpoints, newest first, and the folders without a usable manifest.

        Costs two requests, and those for manifests that the table of contents does not know.
        """
        names = self._names()
        unknown = at_once(self._entry, [name for name in names if name not in self._table])
        for name in self._table.keys() - names.keys():
            del self._table[name]
        self._table.update({entry.name: saved for entry in unknown if (saved := entry.saved)})
        newest_first = sorted(self._table.values(), key=lambda one: one.key, reverse=True)
        return newest_first, [entry for entry in unknown if entry.manifest is None]

    def entries(self) -> Sequence[Entry]:
        """Return every folder with a checkpoint's name and its manifest, newest first."""
        return at_once(self._entry, self._names())

    def distrust_table(self) -> None:
        """Read every manifest from now on: what the table of contents said was not so."""
        self._table = {}

    @cached_property
    def _table(self) -> dict[str, Saved]:
        return Index.from_json(self._artifacts.read(_INDEX)).saved()

    def _names(self) -> Mapping[str, tuple[int, int | None]]:
        names = {
            name: parsed
            for artifact in self._artifacts.list(ROOT)
            if artifact.is_folder
            and (parsed := parse_name(name := artifact.path.rpartition("/")[2]))
        }
        newest_first = sorted(names, key=lambda name: (names[name][0], names[name][1] or 0))
        return {name: names[name] for name in reversed(newest_first)}

    def _entry(self, name: str) -> Entry:
        step, _ = parse_name(name) or (0, None)
        try:
            manifest = self.manifest(name)
        except CheckpointError as error:
            return Entry(
                name=name,
                step=step,
                manifest=None,
                problem=str(error),
                foreign=isinstance(error, ForeignFormat),
                torn=isinstance(error, TornManifest),
            )
        if manifest is None:
            return Entry(name=name, step=step, manifest=None, problem=NO_MANIFEST)
        if manifest.step != step:
            problem = f"its manifest is of step {manifest.step}"
            return Entry(name=name, step=step, manifest=None, problem=problem)
        return Entry(name=name, step=step, manifest=manifest)

    def manifest(self, name: str) -> Manifest | None:
        """Return the manifest of ``name``, or None where there is none."""
        if name not in self._manifests:
            content = self.read(name, MANIFEST)
            if content is None:
                return None
            self._manifests[name] = Manifest.from_json(content)
        return self._manifests[name]

    def read(self, name: str, file: str) -> bytes | None:
        """Return a small file of a checkpoint as it is; only ``restore`` verifies contents."""
        return self._artifacts.read(f"{ROOT}/{_checked(name)}/{file}")

    def problem(self, name: str, manifest: Manifest) -> str | None:
        """Compare names and sizes with the manifest; contents are verified on ``restore``."""
        sizes = self._sizes(f"{ROOT}/{name}")
        if MANIFEST not in sizes:
            return NO_MANIFEST
        return self._missing(manifest, own=sizes)

    def _missing(self, manifest: Manifest, *, own: Mapping[str, int | None]) -> str | None:
        """Say which file is not as the manifest has it; ``own`` are the sizes in its folder."""
        shared = [entry for entry in manifest.files if entry.shared]
        found = at_once(self._shared_size, shared)
        sizes = {**own, **{e.path: size for e, size in zip(shared, found, strict=True)}}
        for entry in manifest.files:
            size = sizes.get(entry.path, -1)
            if size == -1:
                return f"{entry.path} is missing"
            # Some stores list an empty file without a size.
            if size is not None and (mismatch := manifests.size_mismatch(size, entry)):
                return f"{entry.path} {mismatch}"
        return None

    def _shared_size(self, entry: FileEntry) -> int | None:
        """Return the size of a shared file as the store lists it, -1 where it is not there."""
        return self._sizes(f"{SHARED}/{entry.sha256}").get(entry.name, -1)

    def _sizes(self, root: str, *, below: str = "") -> dict[str, int | None]:
        sizes: dict[str, int | None] = {}
        for artifact in self._artifacts.list(f"{root}/{below}".rstrip("/")):
            path = artifact.path.removeprefix(f"{root}/")
            if artifact.is_folder:
                sizes |= self._sizes(root, below=path)
            else:
                sizes[path] = artifact.size
        return sizes

    # Sending

    def name_for(self, manifest: Manifest, *, begun: str = "") -> tuple[str, bool]:
        """Return the name to store ``manifest`` under, and whether it stands there already.

        A folder is never written twice, nor by two: while a process that lost the run may still
        write, its folder without a manifest is not free either, except to the upload that has
        ``begun`` it.
        """
        plain = folder_name(manifest.step)
        for name in (plain, f"{plain}.a{manifest.attempt}"):
            content = self._artifacts.read(f"{ROOT}/{name}/{MANIFEST}")
            if content is None and (name != plain or self._is_free(name, begun=begun)):
                return name, False
            if content is not None and content.decode(errors="replace") == manifest.to_json():
                return name, True
        raise CheckpointError(
            f"the store has another checkpoint of step {manifest.step}, attempt {manifest.attempt}"
        )

    def _is_free(self, name: str, *, begun: str) -> bool:
        if name == begun:
            return True
        return name not in self._left and not self._artifacts.list(f"{ROOT}/{name}")

    def upload(self, folder: Path, *, name: str, may_go_on: MayGoOn = always) -> None:
        """Store a whole local checkpoint under a name from ``name_for``; safe to repeat."""
        manifest = manifests.read(folder)
        problem = manifests.problem_with(folder, manifest, digests=False)
        if problem is not None:
            raise CheckpointError(f"{folder} cannot be sent: {problem}")
        target = f"{ROOT}/{name}"
        own = [entry for entry in manifest.files if not entry.shared]
        check(may_go_on)
        self._clear_strays(target, wanted={entry.path for entry in own})
        shared = [entry for entry in manifest.files if entry.shared]
        at_once(lambda entry: self._send_shared(folder, entry), shared, may_go_on=may_go_on)
        faults.reach("upload.shared", step=manifest.step)
        at_once(lambda one: self._send(folder, one, target=target), own, may_go_on=may_go_on)
        faults.reach("upload.files", step=manifest.step)
        self._check_arrived(name, manifest)
        check(may_go_on)
        self._artifacts.upload(folder / MANIFEST, to=target)
        faults.reach("upload.manifest", step=manifest.step)
        self._manifests[name] = manifest
        self._table[name] = Saved.of(manifest, name=name)
        if may_go_on():
            self._write_table_if_possible()

    def _check_arrived(self, name: str, manifest: Manifest) -> None:
        """Refuse to send a manifest over missing files, or over the manifest of another process.

        Where two hold the run for a moment, one may collect the shared files that the other counts
        on. What is refused here is tried again from the beginning.
        """
        problem = self._missing(manifest, own=self._sizes(f"{ROOT}/{name}"))
        if problem is None and self._artifacts.read(f"{ROOT}/{name}/{MANIFEST}") is not None:
            problem = "another process has stored a checkpoint there"
        if problem is not None:
            raise TrackingError(f"the upload of {name} did not arrive whole: {problem}")

    def _clear_strays(self, target: str, *, wanted: set[str]) -> None:
        """Delete what a dead upload left under ``target`` and this one will not replace.

        Where the store cannot delete they stay: the manifest says which files count.
        """
        strays = [path for path in self._sizes(target) if path not in wanted]
        try:
            for path in strays:
                self._artifacts.delete(f"{target}/{path}")
        except UnreachableError:
            raise
        except TrackingError as error:
            logger.debug("%s keeps files that do not belong to it: %s", target, error)

    def _send_shared(self, folder: Path, entry: FileEntry) -> None:
        if self._shared_size(entry) != entry.size:
            self._artifacts.upload(folder / entry.path, to=f"{SHARED}/{entry.sha256}")

    def _send(self, folder: Path, entry: FileEntry, *, target: str) -> None:
        parent = Path(entry.path).parent.as_posix()
        to = target if parent == "." else f"{target}/{parent}"
        self._artifacts.upload(folder / entry.path, to=to)
        faults.reach("upload.file")

    def _write_table_if_possible(self) -> None:
        try:
            self._write_table()
        except TrackingError as error:  # it is a hint: who does not find the name there reads more
            logger.debug("the table of checkpoints was not written: %s", error)

    def _write_table(self) -> None:
        self._artifacts.write(_INDEX, Index.of(self._table).to_json().encode())

    # Holding and fetching

    def pin(self, name: str) -> bool:
        """Keep ``name`` until it is unpinned; False where it has gone meanwhile."""
        self.holds.pin(_checked(name))
        if self._manifest_again(name) is not None:
            return True
        self.holds.unpin(name)
        return False

    def _manifest_again(self, name: str) -> Manifest | None:
        """Read a manifest that may have gone since it was read."""
        self._manifests.pop(name, None)
        return self.manifest(name)

    def restore(self, name: str, *, to: Path) -> Manifest:
        """Download a checkpoint, verify it, and only then give it the name ``to``."""
        with self.holds.restoring(_checked(name)):
            manifest = self._manifest_again(name)
            if manifest is None:
                raise CheckpointError(f"the store has no checkpoint {name}")
            if to.exists():
                raise CheckpointError(f"{to} exists; a checkpoint is never written twice")
            scratch = to.with_name(f".{to.name}.partial")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            problem = self._fetch_all(name, manifest, into=scratch)
        if problem is not None:
            shutil.rmtree(scratch, ignore_errors=True)
            raise CheckpointError(f"{name} in the store is not whole: {problem}")
        manifests.write(scratch, manifest)
        files.flush_tree(scratch)
        scratch.rename(to)
        files.flush_folder(to.parent)
        return manifest

    def content_problem(self, name: str, *, scratch: Path, known: dict[str, str]) -> str | None:
        """Download every file of a checkpoint, one after the other, and compare its digest.

        Args:
            name: The checkpoint.
            scratch: A folder for one file at a time.
            known: What was found out about shared files so far, by digest; is added to.
        """
        manifest = self.manifest(_checked(name))
        if manifest is None:
            return NO_MANIFEST
        problems = []
        with self.holds.restoring(name):
            for entry in manifest.files:
                problem = known.get(entry.sha256) if entry.shared else None
                if problem is None:
                    problem = self._fetch(self._path(name, entry), entry, to=scratch / "file")
                    (scratch / "file").unlink(missing_ok=True)
                if entry.shared:
                    known[entry.sha256] = problem
                problems += [problem] if problem else []
        return manifests.shortened(problems)

    def _fetch_all(self, name: str, manifest: Manifest, *, into: Path) -> str | None:
        """Download every file and compare it; return what is wrong."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            fetched = [
                pool.submit(self._fetch, self._path(name, entry), entry, to=into / entry.path)
                for entry in manifest.files
            ]
            label = f"restoring {name}"
            follow(fetched, amount=lambda: files.size_of(into), total=manifest.size, label=label)
            problems = [problem for one in fetched if (problem := one.result())]
        return manifests.shortened(problems)

    def _path(self, name: str, entry: FileEntry) -> str:
        """Return where a file of a checkpoint lies in the store."""
        if entry.shared:
            return f"{SHARED}/{entry.sha256}/{entry.name}"
        return f"{ROOT}/{name}/{entry.path}"

    def _fetch(self, path: str, entry: FileEntry, *, to: Path) -> str:
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._artifacts.download(path, to=to)
        except UnreachableError:
            raise
        except TrackingError:
            parent, _, name = path.rpartition("/")
            listed = {artifact.path.rpartition("/")[2] for artifact in self._artifacts.list(parent)}
            if name in listed:
                raise
            return f"{entry.path} is missing"  # the store answers, and has no such file
        faults.reach("restore.file")
        return manifests.content_problem(to, entry)

    # Deleting

    def drop(self, names: Iterable[str], *, may_go_on: MayGoOn = always) -> Sequence[str]:
        """Delete checkpoints, each one's manifest first; return those that are gone.

        One that was pinned since it was chosen, or that somebody restores now, stays. Shared files
        stay until ``collect``. Who dies half-way leaves folders without a manifest.
        """
        doomed = [_checked(name) for name in names]
        return [name for name in doomed if self._drop(name, may_go_on)]

    def _drop(self, name: str, may_go_on: MayGoOn) -> bool:
        check(may_go_on)
        if self.holds.on(name):
            return False
        step, _ = parse_name(name) or (None, None)
        saved = self._table.pop(name, None)
        self._write_table()
        check(may_go_on)
        content = self._artifacts.read(f"{ROOT}/{name}/{MANIFEST}")
        self._artifacts.delete(f"{ROOT}/{name}/{MANIFEST}")
        # Who holds it writes that down first and looks for the manifest then, so one of both sees
        # the other, whatever the order.
        if content is not None and self.holds.on(name):
            self._artifacts.write(f"{ROOT}/{name}/{MANIFEST}", content)
            self._table.update({} if saved is None else {name: saved})
            return False
        self._manifests.pop(name, None)
        faults.reach("prune.manifest", step=step)
        check(may_go_on)
        self._artifacts.delete(f"{ROOT}/{name}")
        faults.reach("prune.files", step=step)
        return True

    def collect(self, *, may_go_on: MayGoOn = always) -> Sequence[str]:
        """Delete what belongs to no checkpoint; return the artifacts that are gone.

        That is what uploads left that never finished, and shared files that no manifest names.
        Nothing may be under way: only the holder of the run can know.
        """
        entries = self.entries()
        unfinished = [entry.name for entry in entries if self._is_unfinished(entry)]
        self._left.update(unfinished)
        gone = [f"{ROOT}/{name}" for name in unfinished]
        unread = [e for e in entries if e.manifest is None and e.name not in unfinished]
        if unread:  # what it refers to is not known, so every shared file may be needed
            logger.warning("%s: %s; shared files stay", unread[0].name, unread[0].problem)
        else:
            gone += self._unshared(entries)
        for path in gone:
            check(may_go_on)
            self._artifacts.delete(path)
            faults.reach("prune.collect")
        return gone

    def _is_unfinished(self, entry: Entry) -> bool:
        """Whether a folder is what an upload left that never finished.

        Where the manifest was cut by a crash of the store, too: it can never be valid again. That
        is looked at twice, since an answer may be garbled on its way; it then has not the size of
        the file.
        """
        if entry.problem == NO_MANIFEST:
            return True
        if not entry.torn or self.holds.on(entry.name):
            return False
        content = self._artifacts.read(f"{ROOT}/{entry.name}/{MANIFEST}")
        size = self._sizes(f"{ROOT}/{entry.name}").get(MANIFEST) or 0  # some stores list no zero
        return content is not None and len(content) == size and self._entry(entry.name).torn

    def _unshared(self, entries: Iterable[Entry]) -> Sequence[str]:
        needed = {
            file.sha256
            for entry in entries
            if entry.manifest
            for file in entry.manifest.files
            if file.shared
        }
        stored = [artifact.path for artifact in self._artifacts.list(SHARED)]
        return [path for path in stored if path.rpartition("/")[2] not in needed]


def _checked(name: str) -> str:
    if parse_name(name) is None:
        raise ValueError(f"{name!r} is no checkpoint's name")
    return name
