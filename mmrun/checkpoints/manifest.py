"""What makes a checkpoint whole: its files with sizes and digests, named in ``manifest.json``."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from mmrun.errors import CheckpointError
from mmrun.files import sha256, write_whole

FORMAT: Final = 2
"""Format 1 had no ``shared`` files; it is still read."""
_READ = (1, FORMAT)
MANIFEST = "manifest.json"
SHARED_FROM = 64 * 1024
"""Files below this many bytes are never shared: a request costs more than sending them again."""

_SEAL = "digest"

_WORKERS = 4
"""Hashing leaves the interpreter lock; more threads than this only fight for the disk."""

_SHOWN = 3
"""How many problems of one checkpoint are named."""


def _portable(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or str(PurePosixPath(*parts)) != path:
        raise ValueError(f"{path!r} is not a plain relative path")
    if any(char in path for char in "\\:#?%") or not path.isprintable():
        raise ValueError(f"{path!r} has a character that artifact stores do not keep")
    if path == MANIFEST:
        raise ValueError("a manifest does not name itself")
    return path


class Record(BaseModel):
    """Frozen, closed to unknown keys, and plain JSON even where a metric is not a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class FileEntry(Record):
    """One file of a checkpoint; ``path`` is relative to its folder, with ``/``."""

    path: Annotated[str, AfterValidator(_portable)]
    size: NonNegativeInt
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    shared: bool = False
    """Whether the store keeps it once, by its digest, for all checkpoints that have it."""

    @property
    def name(self) -> str:
        """The last part of ``path``."""
        return PurePosixPath(self.path).name


class Selection(Record):
    """By which metric the best checkpoint of a run is chosen."""

    metric: str
    greater_is_better: bool


class Description(Record):
    """What the training knows of a checkpoint when it saves one."""

    run_id: str
    step: NonNegativeInt
    epoch: float | None = None
    attempt: PositiveInt
    metrics: Mapping[str, float] = Field(default_factory=dict)
    """Those evaluated at this very step, nothing older."""
    selection: Selection | None = None
    config_fingerprint: str
    data_version: str
    git_revision: str | None = None
    versions: Mapping[str, str] = Field(default_factory=dict)
    average_of: tuple[str, ...] = ()
    """The checkpoints whose mean these weights are; such a folder has no optimizer's state."""


class ForeignFormat(CheckpointError):  # noqa: N818 (a fact about a checkpoint that may be whole)
    """The manifest is of a version of mmrun that this one does not know."""


class TornManifest(CheckpointError):  # noqa: N818 (a fact about a file)
    """The manifest is not what anybody wrote: cut short, or with a damaged byte."""


class Manifest(Description):
    """A description and the files that belong to it. Its presence says that they are complete."""

    format: Literal[1, 2] = FORMAT
    created_ms: NonNegativeInt
    files: tuple[FileEntry, ...]

    @classmethod
    def of(cls, description: Description, *, created_ms: int, files: tuple[FileEntry, ...]) -> Self:
        """Complete ``description`` with what was found on disk."""
        return cls(**_fields(description), created_ms=created_ms, files=files)

    @property
    def reference(self) -> str:
        """The words that mean this checkpoint and no other, whatever becomes of its run."""
        return f"{self.run_id}@{self.step}.a{self.attempt}"

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.size for entry in self.files)

    def to_json(self) -> str:
        """Return the text of ``manifest.json``; equal manifests have equal texts."""
        tree = _sparse(json.loads(self.model_dump_json()))
        return json.dumps({**tree, _SEAL: seal(tree)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse ``manifest.json``; what is damaged, foreign or unsafe is a ``CheckpointError``."""
        tree = _tree(text)
        sealed = tree.pop(_SEAL, None)
        if tree.get("format") not in _READ:
            raise ForeignFormat(
                f"{MANIFEST} has format {tree.get('format')!r}, this mmrun reads "
                f"{' and '.join(map(str, _READ))}",
                hint="use the version of mmrun that wrote the checkpoint",
            )
        if sealed != seal(tree):
            raise TornManifest(f"{MANIFEST} is damaged: its content has another digest")
        try:
            manifest = cls.model_validate(tree)
        except ValidationError as error:
            raise CheckpointError(f"{MANIFEST} cannot be used: {_first(error)}") from error
        if len({entry.path for entry in manifest.files}) < len(manifest.files):
            raise CheckpointError(f"{MANIFEST} cannot be used: it names a file twice")
        return manifest


def seal(tree: Mapping[str, Any]) -> str:
    """Return the digest by which a manifest shows that it is itself undamaged."""
    canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _sparse(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out what format 1 did not have and what is not said: its texts come out unchanged."""
    files = [{k: v for k, v in file.items() if k != "shared" or v} for file in tree["files"]]
    return {k: v for k, v in {**tree, "files": files}.items() if k != "average_of" or v}


def _fields(description: Description) -> dict[str, Any]:
    return {name: getattr(description, name) for name in Description.model_fields}


def _tree(text: str | bytes) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise TornManifest(f"{MANIFEST} is damaged: it is not JSON") from error
    if not isinstance(tree, dict):
        raise TornManifest(f"{MANIFEST} is damaged: it holds no mapping")
    return tree


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"


def describe(folder: Path) -> tuple[FileEntry, ...]:
    """Return size and digest of every file below ``folder``, by path; links are refused."""
    paths = sorted(_files(folder))
    with ThreadPoolExecutor(_WORKERS) as pool:
        digests = pool.map(sha256, (folder / path for path in paths))
        return tuple(
            _entry(path, size=(folder / path).stat().st_size, digest=digest)
            for path, digest in zip(paths, digests, strict=True)
        )


def with_shared(
    files: tuple[FileEntry, ...], *, constant: Collection[str], before: Manifest | None
) -> tuple[FileEntry, ...]:
    """Mark the files that the store need not be sent with every checkpoint.

    Args:
        files: What a checkpoint consists of.
        constant: Paths of files that training does not change.
        before: The checkpoint before; what it has too, unchanged, is shared from now on.
    """
    known = {(entry.path, entry.sha256) for entry in before.files} if before is not None else set()
    return tuple(
        entry.model_copy(update={"shared": True})
        if entry.size >= SHARED_FROM
        and (entry.path in constant or (entry.path, entry.sha256) in known)
        else entry
        for entry in files
    )


def _entry(path: str, *, size: int, digest: str) -> FileEntry:
    try:
        return FileEntry(path=path, size=size, sha256=digest)
    except ValidationError as error:
        raise CheckpointError(f"a file cannot be kept in a checkpoint: {_first(error)}") from error


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise CheckpointError(f"{name} is a link; a checkpoint holds its files itself")
        if path.is_file() and name != MANIFEST:
            yield name


def write(folder: Path, manifest: Manifest) -> None:
    """Put ``manifest.json`` into ``folder``, whole and flushed."""
    write_whole(folder / MANIFEST, manifest.to_json())


def read(folder: Path) -> Manifest:
    """Return the manifest in ``folder``; a missing or unusable one is a ``CheckpointError``."""
    path = folder / MANIFEST
    if path.is_symlink():
        raise CheckpointError(f"{MANIFEST} is a link")
    try:
        return Manifest.from_json(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"it has no {MANIFEST}") from error
    except OSError as error:
        raise CheckpointError(f"{MANIFEST} cannot be read: {error.strerror}") from error


def problem_with(folder: Path, manifest: Manifest, *, digests: bool = True) -> str | None:
    """Say why ``folder`` is not what ``manifest`` promises, or None when it is.

    Names and sizes are compared first; content only when they agree and ``digests`` is set.
    """
    try:
        present = set(_files(folder))
        problems = _size_problems(folder, manifest, present=present)
        if not problems and digests:
            problems = _digest_problems(folder, manifest)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error}"
    return shortened(problems)


def _size_problems(folder: Path, manifest: Manifest, *, present: set[str]) -> list[str]:
    problems = [
        f"{entry.path} {problem}"
        for entry in manifest.files
        if (problem := _size_problem(folder / entry.path, entry, present=entry.path in present))
    ]
    extra = present - {entry.path for entry in manifest.files}
    return problems + [f"{name} does not belong to it" for name in sorted(extra)]


def _size_problem(path: Path, entry: FileEntry, *, present: bool) -> str:
    if not present:
        return "is missing"
    return size_mismatch(path.stat().st_size, entry)


def size_mismatch(size: int, entry: FileEntry) -> str:
    """Say in words how ``size`` differs from what the manifest promises; "" if it does not."""
    if size == entry.size:
        return ""
    if size == 0:
        return f"is empty instead of {entry.size} bytes"
    if size < entry.size:
        return f"is truncated: {size} of {entry.size} bytes"
    return f"has {size} bytes instead of {entry.size}"


def _digest_problems(folder: Path, manifest: Manifest) -> list[str]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        found = pool.map(lambda entry: content_problem(folder / entry.path, entry), manifest.files)
        return [problem for problem in found if problem]


def content_problem(path: Path, entry: FileEntry) -> str:
    """Say how the file ``path`` differs from what the manifest promises; "" if it does not."""
    if mismatch := size_mismatch(path.stat().st_size, entry):
        return f"{entry.path} {mismatch}"
    if sha256(path) != entry.sha256:
        return f"{entry.path} is damaged: its content has another SHA-256"
    return ""


def shortened(problems: list[str]) -> str | None:
    """Put the first few problems into one line; None where there are none."""
    if not problems:
        return None
    left = len(problems) - _SHOWN
    return "; ".join(problems[:_SHOWN]) + (f"; and {left} more" if left > 0 else "")
