"""Settings of the experiment given by name: ``--learning_rate`` is ``training.learning_rate``."""

from functools import cache
from typing import get_args

from mmrun.cli.options import Option, Takes
from mmrun.config.sections import SECTIONS, known_names
from mmrun.config.successors import known_elsewhere
from mmrun.config.training_fields import training_fields

_FIRST: dict[str, tuple[str, ...]] = {
    "mmrun setup": ("setup", "training"),
    "mmrun train": ("training",),
    "mmrun generate": ("generation", "training"),
}
"""Where a command looks first for a name that several sections have."""


class ExperimentSettings:
    """The names that one command takes beside its own options."""

    def __init__(self, first: tuple[str, ...]) -> None:
        self._first = first

    def find(self, name: str) -> Option | None:
        """Return the setting called ``name``; one that several sections have needs ``--set``."""
        for section in self._first:
            if name in known_names(section):
                return _setting(section, name)
        holders = [section for section in SECTIONS if name in known_names(section)]
        holders = holders or [section for section in SECTIONS if name in known_elsewhere(section)]
        return _setting(holders[0], name) if len(holders) == 1 else None

    def names(self) -> frozenset[str]:
        """Return every name that stands for one setting."""
        return frozenset(name for name in _all_names() if self.find(name) is not None)


def settings_of(called: str) -> ExperimentSettings | None:
    """Return the settings that a command takes, or ``None`` if it takes none."""
    return ExperimentSettings(_FIRST[called]) if called in _FIRST else None


@cache
def _all_names() -> frozenset[str]:
    return frozenset(name for section in SECTIONS for name in known_names(section))


def _setting(section: str, name: str) -> Option:
    return Option(name=name, takes=_takes(section, name), key=f"{section}.{name}")


def _takes(section: str, name: str) -> Takes:
    own = SECTIONS[section].model_fields.get(name)
    if own is not None:
        return "boolean" if bool in (own.annotation, *get_args(own.annotation)) else "value"
    if section == "training" and name in training_fields():
        return "boolean" if training_fields()[name].boolean else "value"
    return "value" if section == "generation" else "maybe"
