"""Artifacts of a run that wait on this disk until a server is told of them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from mmrun import files
from mmrun.errors import TrackingError
from mmrun.tracking.artifact_path import checked, checked_folder
from mmrun.tracking.store import Artifact, UnreachableError

NOT_ASKED = "the tracking server is not asked while training is offline"
ROOT = "artifacts"
_CHECKPOINTS = "checkpoints"


def waiting_artifacts(folder: Path) -> Mapping[str, Path]:
    """Return the artifacts that wait in ``folder``, by their path in the run."""
    root = folder / ROOT
    found = sorted(path for path in root.rglob("*") if path.is_file() and not _is_scratch(path))
    return {path.relative_to(root).as_posix(): path for path in found}


def _is_scratch(path: Path) -> bool:
    """Whether a process died while it wrote this file."""
    return path.name.startswith(".") and path.name.endswith(".partial")


class OfflineArtifacts:
    """The small artifacts of a run that wait on this disk, above those that are known of it."""

    def __init__(self, root: Path, *, kept: Mapping[str, bytes]) -> None:
        self._root = root
        self._kept = kept

    def list(self, folder: str = "") -> list[Artifact]:
        """Return what lies directly in ``folder``; checkpoints are elsewhere, so nobody can say."""
        _refuse_checkpoints(folder)
        prefix = f"{checked_folder(folder)}/" if folder else ""
        sizes = {path: len(content) for path, content in self._kept.items()}
        sizes |= {path: file.stat().st_size for path, file in self._files().items()}
        below = {p.removeprefix(prefix): s for p, s in sizes.items() if p.startswith(prefix)}
        folders = sorted({path.partition("/")[0] for path in below if "/" in path})
        return [
            *(Artifact(path=prefix + name, is_folder=True, size=None) for name in folders),
            *(
                Artifact(path=prefix + name, is_folder=False, size=size)
                for name, size in sorted(below.items())
                if "/" not in name
            ),
        ]

    def upload(self, file: Path, *, to: str) -> None:
        """Keep ``file`` in the folder ``to`` under its own name, whole or not at all."""
        path = checked(f"{to}/{file.name}" if to else file.name)
        _refuse_checkpoints(path)
        if not file.is_file():
            raise TrackingError(f"cannot upload {file}: there is no such file")
        target = self._root / path
        scratch = target.with_name(f".{target.name}.partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, scratch)  # no link: what is uploaded stays as it is now
        scratch.replace(target)

    def download(self, path: str, *, to: Path) -> None:
        """Write the artifact ``path`` to the file ``to``, whole or not at all."""
        content = self.read(path)
        if content is None:
            raise TrackingError(f"the run has no artifact {path!r} here")
        files.write_whole(to, content)

    def read(self, path: str) -> bytes | None:
        """Return the content of one artifact, or None when it does not exist."""
        _refuse_checkpoints(path)
        try:
            return (self._root / checked(path)).read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            return self._kept.get(path)

    def write(self, path: str, content: bytes) -> None:
        """Keep one small artifact, replacing an earlier one whole."""
        _refuse_checkpoints(path)
        files.write_whole(self._root / checked(path), content)

    def delete(self, path: str) -> None:
        """Forget a file or a folder that waits."""
        target = self._root / checked(path)
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)

    def _files(self) -> Mapping[str, Path]:
        return waiting_artifacts(self._root.parent)


def _refuse_checkpoints(path: str) -> None:
    if path.partition("/")[0] == _CHECKPOINTS:
        raise UnreachableError(
            f"the checkpoints in the store are not known: {NOT_ASKED}",
            hint="leave --offline out when the server answers",
        )
