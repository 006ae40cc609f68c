"""A checkpoint folder as it is found, and the names that such folders have."""

import re
from dataclasses import dataclass

from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Saved

_NAME = re.compile(r"checkpoint-(0|[1-9]\d*)(?:\.a([1-9]\d*))?")


_MOVED_NAME = re.compile(rf"({_NAME.pattern})(?:\.[1-9]\d*)?")
"""Where a name was taken already, the folder that was moved there has a number behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A folder that bears a checkpoint's name; without a manifest ``problem`` says why."""

    name: str
    step: int
    manifest: Manifest | None
    problem: str | None = None
    foreign: bool = False
    """Whether it may well be whole, but is of a version of mmrun that this one cannot read."""
    torn: bool = False
    """Whether it has a manifest that is not as anybody wrote it."""

    @property
    def saved(self) -> Saved | None:
        """What decisions need, where there is a manifest."""
        return None if self.manifest is None else Saved.of(self.manifest, name=self.name)


def folder_name(step: int) -> str:
    """Return the name that the checkpoint of ``step`` has on disk."""
    return f"checkpoint-{step}"


def parse_name(name: str) -> tuple[int, int | None] | None:
    """Return step and attempt of ``checkpoint-N`` or ``checkpoint-N.a<k>``; None for others."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return int(match[1]), int(match[2]) if match[2] else None


def parse_moved_name(name: str) -> tuple[int, int | None] | None:
    """Do the same for a folder that was set aside: ``checkpoint-N.2`` is the second of its name."""
    match = _MOVED_NAME.fullmatch(name)
    return None if match is None else parse_name(match[1])
