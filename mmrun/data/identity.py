"""What decides, beside the signal itself, which values a modality makes of it."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from mmrun.files import sha256
from mmrun.modalities.base import GROUP, Modality

_FORMAT = 1
_OWN = "mmrun"
_ALWAYS = ("numpy", "pillow", "torch", "transformers")
_SMALL = 2**20


def identity_digest(modality: Modality, identity: Mapping[str, Any]) -> bytes:
    """Return a digest that differs wherever ``modality`` might load other values.

    It covers ``identity``, the code beside the modality, and the versions of what it decodes with.
    A file that decides values (a font) stands in ``identity`` by its content.
    """
    kind = type(modality)
    parts = {
        "format": _FORMAT,
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "identity": identity,
        "code": _code(kind),
        "versions": _versions(kind),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).digest()


def content_of(path: Path) -> Any:
    """Return the digest of a file; of a folder, those of its small files and a hint at others."""
    path = path.expanduser()
    try:
        if path.is_file():
            return _file(path)
        files = sorted(file for file in path.glob("*") if file.is_file())
        return {file.name: _file(file) for file in files}
    except OSError as error:
        return str(error)


def _file(path: Path) -> Any:
    status = path.stat()
    return sha256(path) if status.st_size <= _SMALL else [status.st_size, status.st_mtime_ns]


def _code(kind: type) -> dict[str, str]:
    """Return the digests of the modules in the folder of the modality's own."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    folder = Path(file).parent if file else None
    return {path.name: sha256(path) for path in sorted(folder.glob("*.py"))} if folder else {}


def _versions(kind: type) -> dict[str, str]:
    names = {*_ALWAYS, *_required(kind)}
    return {name: _version(name) for name in sorted(names)}


def _required(kind: type) -> Iterator[str]:
    """Return the packages that the modality's own package asks for; of mmrun, its extra's only."""
    for entry in entry_points(group=GROUP):
        if entry.value == f"{kind.__module__}:{kind.__qualname__}" and entry.dist is not None:
            if entry.dist.name != _OWN:  # whose version says less than its code does
                yield entry.dist.name
            yield from _requirements(entry.dist, extra=entry.name)


def _requirements(package: Distribution, *, extra: str) -> Iterator[str]:
    for text in package.requires or ():
        requirement = Requirement(text)
        of_extra = "extra" in str(requirement.marker or "")
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if wanted and (of_extra or package.name != _OWN):
            yield requirement.name


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
