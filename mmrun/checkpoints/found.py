"""The checkpoint that a reference means, where it lies, and what was passed over on the way."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmrun import files
from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.manifest import MANIFEST, Manifest
from mmrun.checkpoints.plain import plain_step
from mmrun.checkpoints.reference import FORMS
from mmrun.errors import CheckpointError

Where = Literal["local", "remote", "path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A checkpoint that was passed over, and why."""

    name: str
    step: int
    where: Where
    reason: str
    foreign: bool = False
    """Whether it is not broken, but of a version of mmrun that this one cannot read."""

    def __str__(self) -> str:
        place = "in the store" if self.where == "remote" else "here"
        return f"{self.name} ({place}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The checkpoint that a reference means.

    One on disk has been verified; one in the store so far by names and sizes only, ``bring``
    verifies the rest. ``manifest`` is None for a folder that plain Hugging Face wrote.
    """

    name: str
    step: int
    manifest: Manifest | None
    where: Where
    path: Path | None = None
    rejected: tuple[Rejected, ...] = ()


class RemovedMeanwhile(CheckpointError):  # noqa: N818 (another copy may still be there)
    """A checkpoint went away after it was found: a training rotates while others read."""


def copy_whole(source: Path, manifest: Manifest, *, to: Path) -> None:
    """Make ``to`` a copy of a whole checkpoint that shares no file with it.

    Raises:
        RemovedMeanwhile: the checkpoint is not there any more.
        CheckpointError: it changed while it was copied.
    """
    with files.folder_whole(to) as scratch:
        for name in [entry.path for entry in manifest.files] + [MANIFEST]:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            _copy_file(source, name, to=scratch)
        if (problem := manifests.problem_with(scratch, manifest)) is not None:
            raise CheckpointError(
                f"the copy of {source} is not whole: {problem}",
                hint="see what there is with 'mmrun checkpoints list'",
            )


def _copy_file(source: Path, name: str, *, to: Path) -> None:
    try:
        shutil.copyfile(source / name, to / name)
    except FileNotFoundError as error:
        if (source / name).exists():  # then it is the copy that somebody removes
            raise
        raise RemovedMeanwhile(
            f"{source} was removed while it was copied",
            hint="see what there is with 'mmrun checkpoints list'",
        ) from error


def found_at(path: Path) -> Found:
    """Verify the checkpoint in a folder that the user named; mmrun's own or plain."""
    folder = path.resolve()
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint folder {path}", hint=f"write {FORMS}")
    if not (folder / MANIFEST).exists():
        return _found_plain(path, folder)
    manifest = manifest_at(path)
    problem = manifests.problem_with(folder, manifest)
    if problem is not None:
        raise _not_whole(str(path), problem)
    return Found(name=folder.name, step=manifest.step, manifest=manifest, where="path", path=folder)


def manifest_at(path: Path) -> Manifest:
    """Read the manifest in a folder that the user named, which has one."""
    try:
        return manifests.read(path)
    except CheckpointError as error:
        raise _not_whole(str(path), str(error), hint=error.hint) from error


def _found_plain(path: Path, folder: Path) -> Found:
    inside = sorted(child.name for child in folder.glob("checkpoint-*") if child.is_dir())
    if inside:
        raise CheckpointError(
            f"{path} is a folder of checkpoints, not one of them",
            hint=f"name one: {', '.join(str(path / name) for name in inside[:4])}",
        )
    try:
        step = plain_step(folder)
    except CheckpointError as error:
        raise _not_whole(str(path), f"it has no {MANIFEST}, and {error}") from error
    return Found(name=folder.name, step=step, manifest=None, where="path", path=folder)


def _not_whole(name: str, problem: str, *, hint: str = "") -> CheckpointError:
    return CheckpointError(
        f"checkpoint {name} is not whole: {problem}",
        hint=hint or "see what there is with 'mmrun checkpoints list', or resume from latest",
    )
