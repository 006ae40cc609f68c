"""The table of options of a command, as the command itself declares them."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

from typer.core import TyperOption

from mmrun.errors import UsageError

Takes = Literal["value", "boolean", "maybe", "nothing"]
"""``boolean`` may have a value, true or false; ``maybe`` may have any."""

TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """Something that can be given by name on the command line."""

    name: str
    """With underscores and without dashes: ``output_dir``."""
    takes: Takes
    flag: str = ""
    """How Typer knows it; empty for a setting of the experiment."""
    off: str = ""
    """How Typer is told that it is false; empty where that is the same as not given."""
    key: str = ""
    """The key of the experiment that it sets, where it is no option of the command."""
    repeats: bool = False


def plain_name(word: str) -> str:
    """Return ``output_dir`` for ``--output-dir=x``."""
    return word.partition("=")[0].lstrip("-").replace("-", "_")


def options_of(command: Any) -> dict[str, Option]:
    """Return the options of a Typer command by name."""
    declared = [_option(p) for p in command.params if isinstance(p, TyperOption)]
    return {option.name: option for option in (*declared, *_EVERYWHERE)}


_EVERYWHERE = (
    Option(name="help", takes="nothing", flag="--help"),
    Option(name="verbose", takes="nothing", flag="--verbose"),
)


def _option(parameter: TyperOption) -> Option:
    flag = parameter.opts[0]
    return Option(
        name=plain_name(flag),
        takes=_takes(parameter),
        flag=flag,
        off=next(iter(parameter.secondary_opts), ""),
        repeats=parameter.multiple,
    )


def _takes(parameter: TyperOption) -> Takes:
    if parameter.is_flag:
        return "nothing" if parameter.is_eager else "boolean"
    optional = parameter.metavar is not None and parameter.metavar.startswith("[")
    return "maybe" if optional else "value"


def unknown(name: str, *, of: str, known: Sequence[str] | frozenset[str]) -> UsageError:
    """Return the refusal of a name that ``of`` does not know, with the nearest one it does."""
    wanted = plain_name(name)
    longer = sorted((option for option in known if option.startswith(f"{wanted}_")), key=len)
    close = longer or get_close_matches(wanted, sorted(known), n=1)
    hint = f"--{close[0]}" if close else f"{of} --help"
    return UsageError(f"{of} does not know {name}", hint=hint)
