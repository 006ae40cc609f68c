"""Everything that is wrong with an experiment, collected so that it can be said at once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmrun.config.document import Key, Place
from mmrun.config.masking import hidden
from mmrun.config.values import nearest
from mmrun.errors import ConfigError, UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to correct."""

    text: str
    hint: str
    place: Place


@dataclass(slots=True, kw_only=True)
class Report:
    """Problems and notes on one experiment, in the order they were met."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, key: Key, text: str, *, place: Place, hint: str = "") -> None:
        """Write down what is wrong with the value of ``key``."""
        text = hidden(f"{place.of(key)}: {text}")
        self.problems.append(Problem(text=text, hint=hint, place=place))

    def unknown(self, key: Key, *, known: Sequence[str] | frozenset[str], place: Place) -> None:
        """Write down a name that nothing knows, with the one that was probably meant."""
        close = nearest(key[-1], known)
        what = "section" if len(key) == 1 else "key"
        guess = f"; did you mean {close!r}?" if close else ""
        hint = f"write {close!r} instead of {key[-1]!r}" if close else f"remove {key[-1]!r}"
        self.problem(key, f"unknown {what}{guess}", place=place, hint=hint)

    def note(self, key: Key, text: str, *, place: Place) -> None:
        """Write down what the user should know but need not change."""
        self.notes.append(hidden(f"{place.of(key)}: {text}"))

    def close(self) -> None:
        """Warn once with all notes, and raise once with all problems."""
        if self.notes:
            logger.warning("names that mean nothing or something else here:\n  %s", self._lines())
        if not self.problems:
            return
        first, *rest = sorted(self.problems, key=lambda problem: problem.place.line or 0)
        from_file = any(problem.place.option is None for problem in self.problems)
        family = ConfigError if from_file else UsageError
        raise family(first.text, hint=self._hint(), more=tuple(other.text for other in rest))

    def _lines(self) -> str:
        return "\n  ".join(self.notes)

    def _hint(self) -> str:
        hints = {problem.hint for problem in self.problems}
        if len(hints) == 1 and hints != {""}:
            return hints.pop()
        files = sorted({p.place.file for p in self.problems if p.place.option is None})
        return f"correct {', '.join(files) or 'the command'}"
