"""The arguments as people write them, put into the one form that Typer reads.

Typer takes ``--flag false`` for a flag and a stray argument, ``--a_b`` for another name than
``--a-b``, and answers a slip in a box of its own. So every argument is looked up here first: an
option of the command is written out, a setting of the experiment is set aside, and any other name
is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol

from typer.core import TyperArgument, TyperGroup

from mmrun.cli.options import FALSE, TRUE, Option, options_of, plain_name, unknown
from mmrun.errors import UsageError

_HELP = frozenset({"--help", "-h"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value of the experiment, given by the name it has there."""

    key: str
    text: str
    source: str


class Settings(Protocol):
    """The settings of the experiment that a command takes by name."""

    def find(self, name: str) -> Option | None:
        """Return the setting called ``name``."""
        ...

    def names(self) -> frozenset[str]:
        """Return every name there is."""
        ...


@dataclass(slots=True, kw_only=True)
class CommandLine:
    """The arguments for Typer, and what was set aside."""

    argv: list[str] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    verbose: bool = False

    def add(self, option: Option, text: str | None, *, source: str) -> None:
        """Add one option with its value."""
        if option.name == "verbose":
            self.verbose = text is None or text.lower() in TRUE
        elif option.key:
            text = "true" if text is None else text
            self.settings.append(Setting(key=option.key, text=text, source=source))
        elif option.takes in ("value", "maybe"):
            self.argv.append(f"{option.flag}={text or ''}")
        elif text is None or text.lower() in TRUE:
            self.argv.append(option.flag)
        elif option.off:
            self.argv.append(option.off)


def read_command_line(
    root: Any, argv: Sequence[str], *, settings_of: Callable[[str], Settings | None]
) -> CommandLine:
    """Put ``argv`` into the form that Typer reads, or raise ``UsageError``."""
    line, command, called, rest = CommandLine(), root, "mmrun", list(argv)
    while isinstance(command, TyperGroup):
        word = rest.pop(0) if rest else "--help"
        if word.startswith("-"):
            _Reader(command, called, settings_of).option(word, rest, line=line)
            if line.argv[-1:] in (["--help"], ["--version"]):
                return line
            continue
        command = _subcommand(command, word, called=called)
        called = f"{called} {word}"
        line.argv.append(word)
    _Reader(command, called, settings_of).read(rest, line=line)
    return line


def _subcommand(group: TyperGroup, word: str, *, called: str) -> Any:
    if word in group.commands:
        return group.commands[word]
    close = get_close_matches(word, list(group.commands), n=1)
    hint = f"{called} {close[0]}" if close else f"one of: {', '.join(group.commands)}"
    raise UsageError(f"{called} has no command {word!r}", hint=hint)


class _Reader:
    """Reads what follows the name of one command."""

    def __init__(
        self, command: Any, called: str, settings_of: Callable[[str], Settings | None]
    ) -> None:
        self._options = options_of(command)
        self._arguments = [p for p in command.params if isinstance(p, TyperArgument)]
        self._called = called
        self._settings_of = settings_of
        self._given: set[str] = set()

    def read(self, rest: list[str], *, line: CommandLine) -> None:
        """Add ``rest`` to the command line."""
        plain: list[str] = []
        while rest:
            word = rest.pop(0)
            if word == "--":
                plain += rest
                break
            if word.startswith("-") and word != "-":
                self.option(word, rest, line=line)
            else:
                plain.append(word)
        if "--help" not in line.argv:
            self._check_arguments(plain)
        line.argv += ["--", *plain] if plain else []

    def option(self, word: str, rest: list[str], *, line: CommandLine) -> None:
        """Add one option, taking its value from the same word or from ``rest``."""
        written = word.partition("=")[0]
        option = self._find("--help" if word in _HELP else written)
        text = self._value(option, word, rest)
        if text == "":
            return  # how a launcher whose parameters default to nothing says "not given"
        if option.name in self._given and not option.repeats:
            raise UsageError(f"{written} is given twice", hint="keep the one that is meant")
        self._given.add(option.name)
        line.add(option, text, source=written)

    def _find(self, written: str) -> Option:
        name = plain_name(written)
        if name in self._options:
            return self._options[name]
        positive = self._options.get(name.removeprefix("no_"))
        if positive is not None and positive.off:
            return Option(name=positive.name, takes="nothing", flag=positive.off)
        settings = self._settings_of(self._called)  # costs an import, so only where it is needed
        setting = settings.find(name) if settings is not None else None
        if setting is None:
            names = settings.names() if settings is not None else frozenset()
            raise unknown(written, of=self._called, known=names | self._options.keys())
        return setting

    def _value(self, option: Option, word: str, rest: list[str]) -> str | None:
        written, equals, text = word.partition("=")
        if option.takes == "nothing":
            if equals:
                raise UsageError(f"{written} takes no value", hint=f"{written} alone")
            return None
        if not equals and option.takes == "value":
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"{written} needs a value", hint=f"{written} VALUE")
            return rest.pop(0)
        if not equals:
            if not rest or rest[0].startswith("-") or self._is_argument(rest[0]):
                return None
            text = rest.pop(0)
        if option.takes == "boolean" and text.lower() not in {"", *TRUE, *FALSE}:
            raise UsageError(f"{written} takes true or false, not {text!r}", hint=f"{written} true")
        return text

    def _is_argument(self, text: str) -> bool:
        """Return whether ``text`` is an argument of the command and not the option's value."""
        return bool(self._arguments) and text.lower() not in {"", *TRUE, *FALSE}

    def _check_arguments(self, plain: Sequence[str]) -> None:
        missing = [p for p in self._arguments if p.required][len(plain) :]
        if missing:
            name = missing[0].metavar or str(missing[0].name)
            raise UsageError(f"{self._called} needs {name}", hint=f"{self._called} {name}")
        many = any(p.nargs == -1 for p in self._arguments)
        if len(plain) > len(self._arguments) and not many:
            extra = plain[len(self._arguments)]
            raise UsageError(f"{extra!r} is not expected here", hint=f"{self._called} --help")
