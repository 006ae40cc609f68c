"""Errors a user can act on; each family has its own process exit code.

MmrunError             1  training failed
  UsageError           2  the command line cannot be used as written
  ConfigError          3  the experiment file cannot be used as written
  DataError            4  data missing, malformed or changed
  CheckpointError      5  checkpoint missing, partial or damaged
  DiskFullError        5  no room for one on this machine
  TrackingError        6  tracking server or lease
  PluginError          7  modality unknown or lacking its extra
  StopRequested       75  stopped on request, resumable (130 for Ctrl-C)

Anything else that is raised is a bug and keeps its traceback.
"""

from typing import ClassVar

_AFTER_WORKER = "correct that, and start the same command again"


def _told_by_worker(problem: str) -> tuple[str, bool]:
    """Return what a data-loading worker said: torch makes a whole traceback the first argument."""
    _, found, told = problem.rpartition("\nmmrun.errors.")
    if not found or not problem.startswith("Caught "):
        return problem, False
    return told.partition(": ")[2].strip(), True


class MmrunError(Exception):
    """Base of every error whose remedy is in the user's hands.

    The first argument is what happened (file, line and key in it) and the only positional one, so
    the error survives the trip back from a data-loading worker. ``hint`` is what to do next;
    ``more`` holds further problems of the same kind, one ``error:`` line each.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, hint: str = "", more: tuple[str, ...] = ()) -> None:
        told, in_worker = _told_by_worker(problem)
        super().__init__(told)
        self.hint = _AFTER_WORKER if in_worker else hint
        self.more = more
        self.said = False
        """Whether another process has told the user already."""


class UsageError(MmrunError):
    """The command line cannot be used as written, or contradicts what is on disk."""

    exit_code = 2


class ConfigError(MmrunError):
    """The experiment file or an override cannot be used as written."""

    exit_code = 3


class DataError(MmrunError):
    """A manifest or a media file is missing, unreadable, malformed or changed."""

    exit_code = 4


class CheckpointError(MmrunError):
    """A checkpoint is missing, partial, or does not match its manifest."""

    exit_code = 5


class DiskFullError(MmrunError):
    """This machine has no room for what is fetched or copied; the checkpoint itself is whole."""

    exit_code = 5


class TrackingError(MmrunError):
    """The tracking server refused or lost a request, or another process holds the run."""

    exit_code = 6


class PluginError(MmrunError):
    """A modality is unknown, broken, or lacks the extra it needs."""

    exit_code = 7


class StopRequested(MmrunError):  # noqa: N818 (a wish, not a fault)
    """Training stopped on request after a last checkpoint; the same command goes on."""

    exit_code = 75

    def __init__(self, problem: str, *, hint: str = "", by_keyboard: bool = False) -> None:
        super().__init__(problem, hint=hint)
        self.by_keyboard = by_keyboard
