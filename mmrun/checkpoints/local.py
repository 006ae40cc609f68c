"""Checkpoints on disk: saved whole, listed, linked, rotated; never written twice."""

import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mmrun import faults, files
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import Entry, folder_name, parse_moved_name, parse_name
from mmrun.checkpoints.manifest import Description, ForeignFormat, Manifest
from mmrun.checkpoints.policy import Lineage, Saved, best, live, newest, to_drop
from mmrun.checkpoints.policy import superseded as is_superseded
from mmrun.errors import CheckpointError

logger = logging.getLogger(__name__)

SUPERSEDED = "superseded"
REJECTED = "rejected"
LAST_LINK = "checkpoint-last"
BEST_LINK = "checkpoint-best"

_SCRATCH = re.compile(r"\.checkpoint-.+\.(partial|removed)")
_UNWANTED = "training_args.bin"
"""A pickle that would carry ``hub_token``; the attempt's record has the arguments, masked."""


class LocalCheckpoints:
    """The folder ``OUTPUT_DIR/train``.

    ``checkpoint-N`` is whole when it appears; ``.checkpoint-N.partial`` is being written.
    Names given and returned are relative to ``folder`` (``superseded/a1/checkpoint-N`` too).

    Args:
        folder: where they are.
        run_id: whose they are: those of another run, which somebody copied there, are neither
            listed nor moved, linked or removed. None makes no difference between them.
    """

    def __init__(self, folder: Path, *, run_id: str | None = None) -> None:
        self.folder = folder
        self._run_id = run_id

    def tidy(self) -> None:
        """Remove what a dead process left half done; only the holder of the folder may."""
        for path in self._children(self.folder):
            if _SCRATCH.fullmatch(path.name):
                _remove(path)

    def partial(self, step: int) -> Path:
        """Return a fresh folder in which the checkpoint of ``step`` can be written."""
        path = self.folder / f".{folder_name(step)}.partial"
        _remove(path)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise not_saved(step, self.folder, error) from error
        return path

    def finish(
        self,
        partial: Path,
        description: Description,
        *,
        lineage: Lineage = (),
        constant: Collection[str] = (),
        before: Manifest | None = None,
    ) -> Manifest:
        """Make ``partial`` the checkpoint of its step and return its manifest.

        Where a checkpoint of this step stands already, it stays if it is this attempt's or still
        counts in ``lineage`` (``partial`` then goes); a superseded or broken one is moved away, and
        one that an attempt before had no time to evaluate.
        ``constant`` and ``before`` say which files are shared: see ``manifest.with_shared``.
        """
        if partial != self.folder / f".{folder_name(description.step)}.partial":
            raise ValueError(f"{partial} is not the partial folder of step {description.step}")
        try:
            (partial / _UNWANTED).unlink(missing_ok=True)
            files.flush_tree(partial)
            faults.reach("checkpoint.saved", step=description.step)
            found = manifests.describe(partial)
            manifest = Manifest.of(
                description,
                created_ms=time.time_ns() // 1_000_000,
                files=manifests.with_shared(found, constant=constant, before=before),
            )
            return self._name(partial, manifest, lineage=lineage)
        except OSError as error:
            raise not_saved(description.step, self.folder, error) from error

    def _name(self, partial: Path, manifest: Manifest, *, lineage: Lineage) -> Manifest:
        step = manifest.step
        manifests.write(partial, manifest)
        faults.reach("checkpoint.manifest", step=step)
        standing = self._make_room(manifest, lineage=lineage)
        if standing is not None:
            _remove(partial)
            return standing
        partial.rename(self.folder / folder_name(step))
        files.flush_folder(self.folder)
        faults.reach("checkpoint.renamed", step=step)
        return manifest

    def _make_room(self, manifest: Manifest, *, lineage: Lineage) -> Manifest | None:
        """Move away what stands at the name; return it instead where it is to stay."""
        name = folder_name(manifest.step)
        if not self.path(name).exists():
            return None
        problem = self.problem(name)
        if problem is not None:
            self.reject(name, problem)
            return None
        standing = manifests.read(self.path(name))
        known = lineage and not is_superseded(Saved.of(standing, name=name), lineage)
        mine = standing.run_id == manifest.run_id
        evaluated = (
            manifest.attempt > standing.attempt and manifest.metrics and not standing.metrics
        )
        if mine and not evaluated and (known or standing.attempt == manifest.attempt):
            return standing
        self._set_aside(name, standing)
        return None

    def path(self, name: str) -> Path:
        """Return the folder called ``name``; ``..`` in it works before this folder exists."""
        return Path(os.path.normpath(self.folder / name))

    def entries(self) -> Iterator[Entry]:
        """Yield every folder with a checkpoint's name, whole or not, newest first."""
        yield from self._entries_in(self.folder)

    def set_aside(self) -> Iterator[Entry]:
        """Yield the superseded ones."""
        for folder in sorted(self._children(self.folder / SUPERSEDED)):
            yield from self._entries_in(folder)

    def every(self) -> Sequence[Saved]:
        """Return all with a usable manifest, the superseded ones after the others."""
        entries = (*self.entries(), *self.set_aside())
        return [saved for entry in entries if self._counts(entry) and (saved := entry.saved)]

    def rejected(self) -> Iterator[Entry]:
        """Yield what earlier attempts found broken."""
        yield from self._entries_in(self.folder / REJECTED)

    def problem(self, name: str) -> str | None:
        """Verify one checkpoint, content included, and say what is wrong with it."""
        folder = self.path(name)
        try:
            manifest = manifests.read(folder)
        except CheckpointError as error:
            return str(error)
        return _misplaced(folder, manifest) or manifests.problem_with(folder, manifest)

    def reject(self, name: str, reason: str) -> None:
        """Move a broken checkpoint out of the way, with the reason; it is kept for inspection."""
        target = _free(self.folder / REJECTED / Path(name).name)
        logger.warning("%s is set aside in %s: %s", name, REJECTED, reason)
        self._move(self.path(name), target)
        files.write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n")

    def supersede(self, lineage: Lineage) -> Sequence[str]:
        """Move what a later attempt left behind to ``superseded/a<k>/``; return the old names."""
        gone = [one for one in self.list() if is_superseded(one[0], lineage)]
        for saved, manifest in gone:
            self._set_aside(saved.name, manifest)
        return [saved.name for saved, _ in gone]

    def _set_aside(self, name: str, manifest: Manifest) -> None:
        place = self.folder / SUPERSEDED / f"a{manifest.attempt}" / folder_name(manifest.step)
        self._move(self.path(name), _free(place))

    def rotate(
        self, keep_last: int | None, *, keep: Collection[str] = (), lineage: Lineage = ()
    ) -> Sequence[str]:
        """Remove all but the newest ``keep_last``, the best and ``keep``; None removes nothing."""
        if keep_last is None:
            return []
        drop = to_drop(self.every(), keep_last=keep_last, keep_best=1, keep=keep, lineage=lineage)
        for saved in drop:
            self.remove(saved.name)
        return [saved.name for saved in drop]

    def adopt(self, source: Path, manifest: Manifest, *, to: Path) -> None:
        """Make ``to`` a copy of a whole checkpoint that lies outside this folder."""
        scratch = to.with_name(f".{to.name}.partial")
        _remove(scratch)
        for name in [entry.path for entry in manifest.files] + [manifests.MANIFEST]:
            files.link_or_copy(source / name, scratch / name)
        files.flush_tree(scratch)
        scratch.rename(to)
        files.flush_folder(to.parent)

    def remove(self, name: str) -> None:
        """Delete a checkpoint; its name is gone before its first file is."""
        doomed = self.folder / f".{Path(name).name}.removed"
        _remove(doomed)
        self.path(name).rename(doomed)
        _remove(doomed)

    def link(self, lineage: Lineage = (), *, elsewhere: Collection[Saved] = ()) -> None:
        """Point ``checkpoint-last`` and ``checkpoint-best`` at what they promise.

        ``elsewhere`` are checkpoints known in the store: where the best is only there, no link is
        made rather than a wrong one.
        """
        here = live((saved for saved, _ in self.list()), lineage)
        last = newest(here)
        self._link(LAST_LINK, last)
        names = {one.key: one for one in here}
        ahead = best([*here, *(one for one in live(elsewhere, lineage) if one.key not in names)])
        self._link(BEST_LINK, None if ahead is None else names.get(ahead.key))

    def _link(self, name: str, target: Saved | None) -> None:
        link = self.folder / name
        if link.exists() and not link.is_symlink():
            return  # a file system without links, or the user's own folder
        if target is None:
            link.unlink(missing_ok=True)
            return
        fresh = self.folder / f".{name}.partial"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target.name, target_is_directory=True)
        fresh.replace(link)

    def _entries_in(self, folder: Path) -> Iterator[Entry]:
        parse = parse_name if folder == self.folder else parse_moved_name
        found = [
            (parsed[0], path)
            for path in self._children(folder)
            if (parsed := parse(path.name)) and path.is_dir() and not path.is_symlink()
        ]
        for step, path in sorted(found, reverse=True):
            name = path.relative_to(self.folder).as_posix()
            try:
                manifest = manifests.read(path)
            except CheckpointError as error:
                foreign = isinstance(error, ForeignFormat)
                yield Entry(
                    name=name, step=step, manifest=None, problem=str(error), foreign=foreign
                )
                continue
            problem = _misplaced(path, manifest)
            yield Entry(
                name=name, step=step, manifest=None if problem else manifest, problem=problem
            )

    def _children(self, folder: Path) -> Sequence[Path]:
        return tuple(folder.iterdir()) if folder.is_dir() else ()

    def _move(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        files.flush_folder(target.parent)
        files.flush_folder(source.parent)

    def list(self) -> list[tuple[Saved, Manifest]]:
        """Return what has a usable manifest, newest first; contents are not verified here."""
        return [
            (saved, entry.manifest)
            for entry in self.entries()
            if self._counts(entry) and entry.manifest and (saved := entry.saved)
        ]

    def _counts(self, entry: Entry) -> bool:
        theirs = entry.manifest is not None and entry.manifest.run_id != self._run_id
        return self._run_id is None or not theirs


def not_saved(step: int, folder: Path, error: OSError) -> CheckpointError:
    """Say that the disk did not take a checkpoint."""
    return CheckpointError(
        f"checkpoint {step} could not be saved in {folder}: {error}",
        hint="make room on the disk, then run the same command again to go on",
    )


def _misplaced(folder: Path, manifest: Manifest) -> str | None:
    parsed = parse_name(folder.name)
    if parsed and parsed[0] != manifest.step:
        return f"its manifest is of step {manifest.step}"
    return None


def _free(path: Path) -> Path:
    """Return ``path``, or the first numbered name beside it that is not taken."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}.{count}")
    return candidate


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
