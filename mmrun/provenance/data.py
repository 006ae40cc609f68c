"""The version of the data behind an experiment: DVC's where it tracks them, and a digest.

DVC itself is not needed: its files are YAML, and the digest of a folder is computed as it does.
"""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mmrun import stopwatch
from mmrun.config.schema import SPLITS, Experiment
from mmrun.errors import DataError
from mmrun.files import is_settled, write_whole

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_READ_THEMSELVES = ("text", "signwriting")
"""Kinds of signals that name no file: looking for one would take as long as for those that do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """The digests of one file's content."""

    md5: str
    """As DVC names the content; not a safeguard."""
    sha256: str


def data_version(experiment: Experiment, *, cache: Path | None = None) -> str:
    """Return the version of the manifests and of every file that they name.

    It reads ``sha256:<digest>``, over contents and names relative to the manifest's folder; where
    DVC tracks all of it and nothing was modified, ``dvc:<md5> sha256:<digest>``. ``cache`` is a
    file that remembers digests by path, size and modification time.
    """
    manifests: dict[str, Path] = {
        split: _absolute(path) for split in SPLITS if (path := experiment.data.manifest(split))
    }
    names = signal_columns(experiment)
    named = {split: files_named_by(path, columns=names) for split, path in manifests.items()}
    files = {*manifests.values(), *(file for names in named.values() for file in names.values())}
    digests = _Digester(cache)
    digests.compute(files)
    content = _content_version(manifests, named, digests=digests)
    tracked = _tracked_version(files, digests=digests)
    digests.remember()
    return f"dvc:{tracked} {content}" if tracked else content


def without_dvc(files: Iterable[Path]) -> list[Path]:
    """Return those of ``files`` that no DVC file in or above their folders covers."""
    absolute = {_absolute(file): file for file in files}
    outputs = _outputs_above({file.parent for file in absolute})
    return [
        given
        for file, given in absolute.items()
        if not any(file == path or path in file.parents for path in outputs)
    ]


def same_data(recorded: str, found: str) -> bool:
    """Tell whether two versions name the same data, on whatever machine they were taken."""
    return not set(recorded.split()).isdisjoint(found.split())


def _absolute(path: Path) -> Path:
    """Return ``path`` without ``..`` but with its links, which DVC may have made."""
    return Path(os.path.normpath(path.absolute()))


def signal_columns(experiment: Experiment) -> frozenset[str]:
    """Return the columns that may name files; in slots any column may be a signal's."""
    slots = experiment.processor.slots
    if slots is None:
        kind = experiment.processor.pipeline or experiment.data.dataset_type or ""
        return frozenset() if kind.startswith(_READ_THEMSELVES) else frozenset({"signal"})
    columns = {"signal"}
    for slot in slots:
        if not str(slot.get("processor_class")).lower().startswith(_READ_THEMSELVES):
            columns |= {str(name) for name in slot.get("column_map") or {}}
    return frozenset(columns)


def files_named_by(manifest: Path, *, columns: Collection[str]) -> dict[str, Path]:
    """Return the existing files in ``columns``, by the name written there."""
    try:
        # Not read_text: it would also end a line at a carriage return, which is text here.
        lines = manifest.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{manifest}: cannot be read: {error}", hint="check the paths in the section data"
        ) from error
    header = lines[0].rstrip("\r").split("\t")
    places = [place for place, name in enumerate(header) if name in columns]
    rows = (line.rstrip("\r").split("\t") for line in lines[1:])
    names = {row[place] for row in rows for place in places if len(row) > place}
    return {name: path for name in names if (path := _file(manifest.parent, name))}


def _file(folder: Path, name: str) -> Path | None:
    try:
        path = _absolute(folder / name)
        return path if name and path.is_file() else None
    except (OSError, ValueError):  # a text, not a name: too long, or with a zero byte
        return None


def _content_version(
    manifests: Mapping[str, Path], named: Mapping[str, Mapping[str, Path]], *, digests: "_Digester"
) -> str:
    digest = hashlib.sha256()
    for split, manifest in manifests.items():
        digest.update(f"{split}\0{digests[manifest].sha256}\n".encode())
        for name, path in sorted(named[split].items()):
            digest.update(f"{name}\0{digests[path].sha256}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _tracked_version(files: Iterable[Path], *, digests: "_Digester") -> str | None:
    """Return DVC's name of the data if it covers all ``files`` unmodified, else None."""
    outputs = _outputs_above({file.parent for file in files})
    used: set[Path] = set()
    for file in files:
        covering = [path for path in outputs if file == path or path in file.parents]
        if not covering:
            return None
        used.add(max(covering, key=lambda path: len(path.parts)))
    present = {path: _dvc_digest(path, digests=digests) for path in used}
    for path, md5 in present.items():
        if md5 not in outputs[path]:
            logger.warning("%s differs from what DVC has recorded: its content counts", path)
            return None
    return "+".join(sorted(md5 for md5 in present.values() if md5)) or None


def _outputs_above(folders: Iterable[Path]) -> dict[Path, set[str]]:
    """Return by path what the ``.dvc`` and ``dvc.lock`` files in and above ``folders`` record."""
    outputs: dict[Path, set[str]] = {}
    for place in {place for folder in folders for place in (folder, *folder.parents)}:
        for file in (*place.glob("*.dvc"), place / "dvc.lock"):
            for path, md5 in _outputs_in(file) if file.is_file() else ():
                outputs.setdefault(path, set()).add(md5)
    return outputs


def _outputs_in(file: Path) -> Iterator[tuple[Path, str]]:
    try:
        content = YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return  # not ours to judge; the content is digested instead
    for entry in _entries(content):
        path, md5 = entry.get("path"), entry.get("md5")
        if isinstance(path, str) and isinstance(md5, str):
            yield _absolute(file.parent / path), md5


def _entries(content: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(content, dict):
        return
    stages = content.get("stages")
    for stage in (content, *(stages.values() if isinstance(stages, dict) else ())):
        for kind in ("outs", "deps"):
            entries = stage.get(kind) if isinstance(stage, dict) else None
            if isinstance(entries, list):
                yield from (entry for entry in entries if isinstance(entry, dict))


def _dvc_digest(path: Path, *, digests: "_Digester") -> str | None:
    """Return what DVC calls the present content of a file or a folder."""
    if path.is_file():
        digests.compute([path])
        return digests[path].md5
    if not path.is_dir():
        return None
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    digests.compute(files.values())
    entries = [{"md5": digests[files[name]].md5, "relpath": name} for name in sorted(files)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


class _Digester:
    """Digests of files, computed in parallel and remembered in a file."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._known: dict[str, list[Any]] = _read_cache(cache)
        self._digests: dict[Path, Digests] = {}
        self._new = False

    def __getitem__(self, path: Path) -> Digests:
        return self._digests[path]

    def compute(self, files: Iterable[Path]) -> None:
        """Digest ``files``, those without a remembered digest by reading them."""
        wanted = sorted(set(files) - self._digests.keys())
        with ThreadPoolExecutor() as pool:
            self._digests.update(zip(wanted, pool.map(self._digest, wanted), strict=True))

    def remember(self) -> None:
        """Write the cache, if there is anything new."""
        if self._cache is not None and self._new:
            write_whole(self._cache, json.dumps(self._known))

    def _digest(self, path: Path) -> Digests:
        try:
            status = path.stat()
            key = [status.st_size, status.st_mtime_ns]
            known = self._known.get(str(path))
            if known is not None and known[:2] == key:
                return Digests(md5=known[2], sha256=known[3])
            digests = _digests_of(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        if is_settled(status):
            self._known[str(path)] = [*key, digests.md5, digests.sha256]
            self._new = True
        return digests


def _digests_of(path: Path) -> Digests:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with stopwatch.digests.running(), path.open("rb") as content:
        while chunk := content.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
    return Digests(md5=md5.hexdigest(), sha256=sha256.hexdigest())


def _read_cache(cache: Path | None) -> dict[str, list[Any]]:
    try:
        content = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
