"""The contract of a modality, and how one is found by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from mmrun.errors import ConfigError, PluginError

GROUP = "mmrun.modalities"
Array = NDArray[np.float32]
Augmentation = Callable[[Array, np.random.Generator], Array]
"""From a signal, which must stay as it is, to the changed one."""

_METHODS = ("load", "augmentation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a signal, in the unit of its modality; an ``end`` of None is the signal's end."""

    start: int = 0
    end: int | None = None

    @property
    def whole(self) -> bool:
        """Tell whether this is all of the signal."""
        return self.start == 0 and self.end is None


class Modality(Protocol):
    """Turns a media file into numbers."""

    def __init__(self, settings: Mapping[str, Any], *, feature_size: int, extracted: bool) -> None:
        """Check ``settings`` (a ``ConfigError`` names what is wrong) and keep them.

        ``feature_size`` is how many numbers of a frame the model takes; with ``extracted`` a
        feature extractor in the model makes them, and the modality gives it pixels or waves.
        """
        ...

    def load(self, path: Path, *, span: Span) -> Array:
        """Return the signal, time first; a ``DataError`` says what is wrong with the file.

        Nothing here is random.
        """
        ...

    def augmentation(self) -> Augmentation | None:
        """Return what changes a sample of the training set at random; None for nothing.

        It gets the loaded signal, and a generator that depends on seed, epoch and sample only: all
        that is random must come from it, then a sample is the same in any worker process, and
        before and after a resume.
        """
        ...


class Settings(BaseModel):
    """Base of a modality's settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Own = TypeVar("Own", bound=Settings)


def read_settings(kind: type[Own], given: Mapping[str, Any]) -> Own:
    """Validate ``processor.modality_kwargs``; all that is wrong is said at once."""
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        problems = []
        for found in error.errors():
            key = ".".join(map(str, found["loc"]))
            reason = found["msg"].removeprefix("Value error, ")
            if found["type"] == "extra_forbidden":
                reason = "is not a setting of this modality"
                near = get_close_matches(key, kind.model_fields, n=1)
                reason += f"; did you mean {near[0]!r}?" if near else ""
            problems.append(f"processor.modality_kwargs{'.' * bool(key)}{key}: {reason}")
        raise ConfigError(
            problems[0],
            hint=f"the settings are {', '.join(sorted(kind.model_fields))}",
            more=tuple(problems[1:]),
        ) from error


def modality_name(pipeline: str) -> str:
    """Return the modality of a pipeline: `features` for `features2text`, and for itself."""
    return pipeline.removesuffix("2text")


def load_modality(name: str) -> type[Modality]:
    """Import the modality called ``name``, built in or installed."""
    installed = _installed()
    if name not in installed:
        near = get_close_matches(name, installed, n=1)
        known = ", ".join(sorted(installed)) or "none is installed"
        raise PluginError(
            f"unknown modality {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            hint=f"choose --modality or data.dataset_type among: {known}",
        )
    try:
        modality: type[Modality] = installed[name].load()
    except ModuleNotFoundError as error:
        raise PluginError(
            f"modality {name!r} needs the package {error.name!r}",
            hint=f"pip install 'mmrun[{name}]'",
        ) from error
    if missing := [method for method in _METHODS if not hasattr(modality, method)]:
        raise PluginError(
            f"modality {name!r} ({installed[name].value}) has no method {missing[0]!r}",
            hint=f"add it, or install a version of {_package(installed[name])} made for this mmrun",
        )
    return modality


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "the package"


def _installed() -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        first = found.setdefault(entry.name, entry)
        if first.value != entry.value:
            raise PluginError(
                f"modality {entry.name!r} is there twice: {first.value} and {entry.value}",
                hint="uninstall one of the two packages that bring it",
            )
    return found
