"""The contract of a modality, and how one is found by name."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from mmrun.errors import ConfigError, PluginError

logger = logging.getLogger(__name__)

GROUP = "mmrun.modalities"
Array = NDArray[np.float32]
Loaded = Array | NDArray[np.int64]
"""What a modality makes of a signal: numbers, or ids of tokens."""
Augmentation = Callable[[Array, np.random.Generator], Array]
"""From a signal, which must stay as it is, to the changed one."""
Unit = Literal["milliseconds", "frames"]

_PARTS = ("gives", "load", "length", "augmentation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a signal, in the unit of its modality; an ``end`` of None is the signal's end."""

    start: int = 0
    end: int | None = None

    @property
    def whole(self) -> bool:
        """Tell whether this is all of the signal."""
        return self.start == 0 and self.end is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What a row of the manifest says of one input."""

    text: str
    """As it is written there: the name of a file, or what is to be read itself."""
    folder: Path = Path()
    """What a name is relative to."""
    span: Span = Span()

    @property
    def path(self) -> Path:
        """The file that ``text`` names, if it names one."""
        return self.folder / self.text

    def is_file(self) -> bool:
        """Tell whether ``text`` names a file that is there."""
        try:
            return self.path.is_file()
        except (OSError, ValueError):  # a text, not a name: too long, or with a zero byte
            return False

    def is_folder(self) -> bool:
        """Tell whether ``text`` names a folder that is there."""
        try:
            return self.path.is_dir()
        except (OSError, ValueError):
            return False

    def is_link(self) -> bool:
        """Tell whether ``text`` names a link, wherever it leads."""
        try:
            return self.path.is_symlink()
        except (OSError, ValueError):
            return False


class Tokenizer(Protocol):
    """What a modality may ask of the tokenizer of transformers."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]:
        """Return a mapping with the ids of ``text`` under ``input_ids``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """What the model takes from a modality."""

    feature_size: int
    """How many numbers of a frame the model takes (``model.feat_dim``)."""
    extracted: bool = False
    """Whether a feature extractor in the model makes those from pixels or waves."""
    tokenizer: Tokenizer | None = None
    """The tokenizer of prompts and labels; None while only settings are checked."""


class Modality(Protocol):
    """Turns a signal into numbers."""

    gives: ClassVar[Literal["frames", "tokens"]]
    """Numbers ``[T, ...]``, or ids of the tokenizer ``[T]`` that the backbone itself embeds."""

    def __init__(self, settings: Mapping[str, Any], *, model: ModelInput) -> None:
        """Check ``settings`` (a ``ConfigError`` names what is wrong) and keep them."""
        ...

    def load(self, signal: Signal) -> Loaded:
        """Return the signal, time first; a ``DataError`` says what is wrong with it.

        Nothing here is random.
        """
        ...

    def length(self, signal: Signal) -> int:
        """Return how many frames ``load`` would return.

        What the head of a file says is enough: ``setup`` asks this of every row, and it need not
        find what is wrong in the rest of the file. ``len(self.load(signal))`` is always right.
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
    without_effect: ClassVar[Mapping[str, str]] = {}
    """Keys of other frameworks that mean nothing here, and why: said once, and left out."""


Own = TypeVar("Own", bound=Settings)


def read_settings(kind: type[Own], given: Mapping[str, Any]) -> Own:
    """Validate ``processor.modality_kwargs``; all that is wrong is said at once."""
    for key in kind.without_effect.keys() & given.keys():
        _tell_once(f"processor.modality_kwargs.{key}: without effect: {kind.without_effect[key]}")
    try:
        own = {key: value for key, value in given.items() if key not in kind.without_effect}
        return kind.model_validate(own)
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


@cache
def _tell_once(warning: str) -> None:
    logger.warning("%s", warning)


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
    if missing := [part for part in _PARTS if not hasattr(modality, part)]:
        raise PluginError(
            f"modality {name!r} ({installed[name].value}) has no {missing[0]!r}",
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
