"""Uploads not yet done: hard links that survive rotation, this process, and a reboot."""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mmrun import faults, files
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import folder_name, parse_name
from mmrun.checkpoints.manifest import ForeignFormat, Manifest
from mmrun.checkpoints.policy import Saved
from mmrun.errors import CheckpointError

logger = logging.getLogger(__name__)

REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadState:
    """How often an upload was tried, and what the last try said."""

    tries: int = 0
    error: str = ""
    at: str = ""
    """When that was, for people."""
    begun: str = ""
    """The name of the folder in the store that is this upload's, and no other's."""

    def __str__(self) -> str:
        if not self.tries:
            return "not tried yet"
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"tried {times}, last at {self.at}: {self.error}"


class Spool:
    """The folder ``OUTPUT_DIR/spool``; an entry appears whole and disappears whole.

    Names are ``RUN_ID/checkpoint-N.a<k>``. With ``run_id`` only that run's entries count: what
    another run left is for its own artifacts. What is damaged is set aside in ``rejected/``.
    """

    def __init__(self, folder: Path, *, run_id: str | None = None) -> None:
        self.folder = folder
        self._run_id = run_id
        self._since_ms = time.time_ns() // 1_000_000
        self._trusted: set[str] = set()

    def tidy(self) -> None:
        """Remove what a dead process left half linked or half removed; set aside the damaged."""
        for path in self._children():
            name = path.relative_to(self.folder).as_posix()
            if path.name.startswith(".checkpoint-"):
                shutil.rmtree(path, ignore_errors=True)
                self._state_file(path).unlink(missing_ok=True)
            else:
                self._tidy_entry(name)

    def _tidy_entry(self, name: str) -> None:
        try:
            manifests.read(self.folder / name)
        except ForeignFormat as error:  # it may well be whole: the mmrun that wrote it sends it
            logger.warning("%s is not sent: %s; %s", self.folder / name, error, error.hint)
        except CheckpointError as error:
            self.reject(name, str(error))

    def add(self, checkpoint: Path, manifest: Manifest) -> None:
        """Link the files of a whole checkpoint; one that is there already is left alone."""
        name = f"{folder_name(manifest.step)}.a{manifest.attempt}"
        final = self.folder / manifest.run_id / name
        if final.exists():
            return
        scratch = final.with_name(f".{name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            for file in [entry.path for entry in manifest.files] + [manifests.MANIFEST]:
                files.link_or_copy(checkpoint / file, scratch / file)
            files.flush_tree(scratch)
            faults.reach("spool.linked", step=manifest.step)
            scratch.rename(final)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        files.flush_folder(final.parent)
        if manifest.created_ms >= self._since_ms:
            self.trust(f"{manifest.run_id}/{name}")

    def trusts(self, name: str) -> bool:
        """Whether this process has read the content of ``name`` and found it as it should be.

        What it has saved itself it has just taken the digests of.
        """
        return name in self._trusted

    def trust(self, name: str) -> None:
        """Need not read the content of ``name`` again."""
        self._trusted.add(name)

    def reject(self, name: str, reason: str) -> None:
        """Set aside what cannot be sent, with the reason beside it; it is kept for inspection."""
        path, target = self.folder / name, self.folder / REJECTED / name
        if not path.exists():  # removed since it was looked at
            return
        logger.warning("%s is not sent but set aside in %s: %s", name, target.parent, reason)
        self._trusted.discard(name)
        shutil.rmtree(target, ignore_errors=True)  # the same one, set aside before
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        files.write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n")
        self._state_file(path).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Forget an upload that is done, or that is no longer wanted; it may have gone already."""
        self._trusted.discard(name)
        path = self.folder / name
        doomed = path.with_name(f".{path.name}.removed")
        shutil.rmtree(doomed, ignore_errors=True)
        if path.exists():
            path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        self._state_file(path).unlink(missing_ok=True)

    def entries(self) -> Iterator[tuple[Path, Manifest]]:
        """Yield the folders that wait and their manifests: whole copies of checkpoints."""
        for path in self._children():
            if not parse_name(path.name):
                continue
            try:
                yield path, manifests.read(path)
            except CheckpointError:  # sent, or removed, since the folder was listed
                continue

    def foreign(self) -> Sequence[Path]:
        """Return what waits for the version of mmrun that wrote it: this one cannot read it."""
        return [path for path in self._children() if parse_name(path.name) and _is_foreign(path)]

    def waiting(self) -> Sequence[Saved]:
        """Return what is to be sent, oldest first."""
        found = [
            Saved.of(manifest, name=path.relative_to(self.folder).as_posix())
            for path, manifest in self.entries()
        ]
        return sorted(found, key=lambda one: one.key)

    def size(self) -> int:
        """Return the bytes that wait."""
        return sum(manifest.size for _, manifest in self.entries())

    def state(self, name: str) -> UploadState:
        """Return how the upload ``name`` went so far."""
        try:
            text = self._state_file(self.folder / name).read_text(encoding="utf-8")
            return UploadState(**json.loads(text))
        except (OSError, ValueError, TypeError):
            return UploadState()

    def note(self, name: str, *, error: str) -> None:
        """Write down that the upload ``name`` was tried and failed; it waits, and may rot."""
        self._trusted.discard(name)
        state = self.state(name)
        at = time.strftime("%Y-%m-%d %H:%M:%S")
        self._write_state(name, replace(state, tries=state.tries + 1, error=error, at=at))

    def begin(self, name: str, *, as_: str) -> None:
        """Write down that the upload ``name`` fills the folder ``as_`` in the store from now on."""
        state = self.state(name)
        if state.begun != as_:
            self._write_state(name, replace(state, begun=as_))

    def _write_state(self, name: str, state: UploadState) -> None:
        try:
            files.write_whole(self._state_file(self.folder / name), json.dumps(asdict(state)))
        except OSError as full:  # it is a hint
            logger.debug("the state of %s was not written: %s", name, full)

    def _state_file(self, path: Path) -> Path:
        return path.with_name(f"{path.name}.state.json")

    def _children(self) -> Iterator[Path]:
        if not self.folder.is_dir():
            return
        for run in sorted(self.folder.iterdir()):
            if run.is_dir() and run.name != REJECTED and self._run_id in (None, run.name):
                yield from (path for path in sorted(run.iterdir()) if path.is_dir())


def _is_foreign(path: Path) -> bool:
    try:
        manifests.read(path)
    except ForeignFormat:
        return True
    except CheckpointError:
        return False
    return False
