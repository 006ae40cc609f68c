"""Settings as they were written: plain values, and where each of them stands."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from mmrun.config.masking import hidden, remember_file
from mmrun.errors import ConfigError

Key = tuple[str, ...]
"""The way to a value: ``("training", "learning_rate")``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value was written: a line of a file, an option, or a stored configuration."""

    file: str = "the stored configuration"
    line: int | None = None
    option: str | None = None

    def of(self, key: Key) -> str:
        """Return what an error about ``key`` begins with."""
        name = ".".join(key)
        if self.option is not None:
            return f"--set {name}" if self.option == "--set" else self.option
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {name}"


@dataclass(slots=True, kw_only=True)
class Document:
    """A tree of plain values under construction, with the place of each key."""

    values: dict[str, Any]
    places: dict[Key, Place] = field(default_factory=dict)
    whole: Place = Place()

    def place(self, key: Key) -> Place:
        """Return where ``key`` was written, or else what holds it."""
        while key:
            if key in self.places:
                return self.places[key]
            key = key[:-1]
        return self.whole

    def put(self, key: Key, value: Any, *, place: Place) -> None:
        """Set one value, and the mappings on the way to it; raises ``TypeError`` at a value."""
        *parents, leaf = key
        holder = self.values
        for depth, name in enumerate(parents, start=1):
            if holder.get(name) is None:
                holder[name] = {}
                self.places[key[:depth]] = place
            holder = holder[name]
            if not isinstance(holder, dict):
                raise TypeError(f"{name} holds a value, not further names")
        holder[leaf] = value
        self.places = {k: p for k, p in self.places.items() if k[: len(key)] != key}
        self.places[key] = place

    def texts(self) -> Iterator[tuple[Key, str]]:
        """Yield every text in the mappings of the tree, and its key."""
        return _texts(self.values, ())


def read_document(path: Path) -> Document:
    """Read an experiment file (YAML 1.2), or say in two lines why it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"no experiment file at {path}", hint="give its path with --config_path"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read {path}: {reason}", hint="give an experiment file with --config_path"
        ) from error
    places: dict[Key, Place] = {}
    try:
        tree = _plain(YAML().load(text), key=(), file=str(path), places=places)
    except YAMLError as error:
        remember_file(text)
        raise _malformed(path, error) from error
    if not isinstance(tree, dict):
        found = "is empty" if tree is None else "does not hold sections"
        raise ConfigError(
            f"{path}: the experiment file {found}",
            hint="write sections such as data:, model: and training:, as in params.yaml",
        )
    return Document(values=tree, places=places, whole=Place(file=str(path)))


def parse_value(text: str) -> Any:
    """Read a scalar, ``[list]`` or ``{mapping}`` of YAML 1.2; all else is the text itself."""
    try:
        value = _plain(YAML().load(text), key=(), file="", places={})
    except (YAMLError, ConfigError):
        return text
    if " #" in text or (isinstance(value, dict | list) and not text.startswith(("[", "{"))):
        return text
    return value


def _malformed(path: Path, error: YAMLError) -> ConfigError:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    problem = error.problem if isinstance(error, MarkedYAMLError) else str(error)
    lines = [line.strip() for line in hidden(str(problem or error)).splitlines() if line.strip()]
    reason = lines[0] if lines else "it cannot be read"
    where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
    return ConfigError(f"{where}: not valid YAML: {reason}", hint=f"correct the line in {path}")


def _plain(node: Any, *, key: Key, file: str, places: dict[Key, Place]) -> Any:
    """Return the node as plain values and write down the line of every key."""
    if isinstance(node, CommentedMap):
        return {
            name: _plain(value, key=(*key, name), file=file, places=places)
            for name, value in _named(node, key=key, file=file, places=places)
        }
    if isinstance(node, CommentedSeq):
        return [
            _plain(value, key=(*key, str(index)), file=file, places=places)
            for index, value in enumerate(node)
        ]
    return _scalar(node, where=places.get(key, Place(file=file)).of(key))


def _named(
    node: CommentedMap, *, key: Key, file: str, places: dict[Key, Place]
) -> Iterator[tuple[str, Any]]:
    lines = node.lc.data or {}
    for name, value in node.items():
        text = str(name)
        if name in lines:
            places[(*key, text)] = Place(file=file, line=lines[name][0] + 1)
        yield text, value


def _scalar(node: Any, *, where: str) -> Any:
    if isinstance(node, bool | ScalarBoolean):
        return bool(node)
    if node is None:
        return None
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if isinstance(node, datetime.date):
        return node.isoformat()
    raise ConfigError(
        f"{where}: a {type(node).__name__} has no meaning here",
        hint="write texts, numbers, true, false, null, lists and mappings",
    )


def _texts(values: Mapping[str, Any], key: Key) -> Iterator[tuple[Key, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _texts(value, (*key, name))
        elif isinstance(value, str):
            yield (*key, name), value
