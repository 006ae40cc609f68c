"""Written values become typed ones; every misfit is a ``ValueError`` with a short reason."""

import math
import os
import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from mmrun.config.document import parse_value
from mmrun.config.training_fields import TrainingField

TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0"})
_NULL = ("null", "None")


def nearest(name: str, known: Sequence[str] | frozenset[str]) -> str | None:
    """Return the known name that looks most like ``name``, if one does."""
    return next(iter(get_close_matches(name, sorted(known), n=1)), None)


def coerce(field: TrainingField, value: Any) -> Any:
    """Return ``value`` as the annotation of a training argument wants it.

    Texts are read too, so that ``"1e-4"`` is a number for a number and ``"{a: 1}"`` a mapping.
    """
    if field.optional and (value is None or value in _NULL):
        return None
    if field.choices:
        return _choice(field, value)
    kinds = [kind.partition("[")[0] for kind in field.kinds]
    readers = [(what, read) for kind, what, read in _READERS if kind in kinds]
    if "str" not in kinds and "list" in kinds and isinstance(value, str):
        value = parse_value(value) if value.startswith("[") else split(value)
    for _, read in readers:
        try:
            return read(value)
        except ValueError:
            continue
    wanted = " or ".join(what for what, _ in readers)
    if not wanted:
        raise ValueError("can only be made in Python, not written down")
    raise ValueError(f"must be {wanted}, not {value!r}")


def split(text: str) -> list[str]:
    """Return the parts of ``a, b``."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def prepared(annotation: Any, value: Any) -> Any:
    """Return a written value of a section's field so that pydantic reads it as it was meant."""
    members = set(_members(annotation))
    if isinstance(value, str):
        return _from_text(members, value)
    if str in members and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


def admits_none(annotation: Any) -> bool:
    """Return whether ``None`` is a value of its own, and not only the absence of one."""
    return type(None) in _members(annotation)


def _from_text(members: set[Any], text: str) -> Any:
    if type(None) in members and text in _NULL:
        return None
    if Path in members or (str in members and text.startswith("~/")):
        return os.path.expanduser(text)  # noqa: PTH111 (URLs must stay as they are)
    origins = {get_origin(member) for member in members}
    if str not in members and origins & {tuple, Mapping}:
        parsed = parse_value(text)
        return split(text.strip("()")) if isinstance(parsed, str) and tuple in origins else parsed
    return text


def _members(annotation: Any) -> list[Any]:
    """Return the alternatives of an annotation, without what pydantic has hung on it."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for member in get_args(annotation) for part in _members(member)]
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    return [annotation]


def _choice(field: TrainingField, value: Any) -> str:
    if value in field.choices:
        return str(value)
    close = nearest(str(value), field.choices)
    guess = f"; did you mean {close!r}?" if close else ""
    raise ValueError(f"must be one of {', '.join(field.choices)}, not {value!r}{guess}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in TRUE | FALSE:
        return text in TRUE
    raise ValueError


def _false(value: Any) -> bool:
    if _boolean(value):
        raise ValueError
    return False


def _whole(value: Any) -> int:
    number = _number(value)
    if math.isinf(number) or number != int(number):
        raise ValueError
    return int(number)


def _number(value: Any) -> int | float:
    """Keep a whole number whole: that is what a person who calls transformers would pass."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError  # noqa: TRY004 (a misfit like any other)
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        number = float(value)
    if math.isnan(number):
        raise ValueError
    return number


def _list(value: Any) -> list[Any]:
    if isinstance(value, str) and value.startswith("["):
        value = parse_value(value)
    if isinstance(value, list):
        return value
    raise ValueError


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.startswith("{"):
        value = parse_value(value)
    if isinstance(value, dict):
        return value
    raise ValueError


def _text(value: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError


_READERS: Sequence[tuple[str, str, Callable[[Any], Any]]] = (
    ("bool", "true or false", _boolean),
    ("Literal", "false", _false),
    ("int", "a whole number", _whole),
    ("float", "a number", _number),
    ("list", "a list", _list),
    ("dict", "a mapping", _mapping),
    ("str", "a text", _text),
)
"""Kind of annotation, how it is called in an error, and how it is read; the first that fits."""
