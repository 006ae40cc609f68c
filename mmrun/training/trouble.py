"""What went wrong in one of several processes, in a form that the others can be told."""

import json
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from mmrun.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MmrunError,
    PluginError,
    StopRequested,
    TrackingError,
    UsageError,
)

AGAIN = "the same command goes on from the last checkpoint"
_KINDS: Mapping[int, type[MmrunError]] = {
    kind.exit_code: kind
    for kind in (UsageError, ConfigError, DataError, CheckpointError, TrackingError, PluginError)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error, and the process that had it."""

    rank: int
    exit_code: int
    problem: str
    hint: str = ""
    by_keyboard: bool = False
    lost: bool = False
    """Whether all that this process knows is that another one is gone."""
    trace: str = ""

    @classmethod
    def of(cls, error: BaseException, *, rank: int) -> "Trouble":
        """Return what is to be told of ``error``."""
        lost = _another_is_gone(error)
        known = error if isinstance(error, MmrunError) else _in_words(error, rank=rank, lost=lost)
        return cls(
            rank=rank,
            exit_code=known.exit_code,
            problem=str(known),
            hint=known.hint,
            by_keyboard=isinstance(known, StopRequested) and known.by_keyboard,
            lost=lost,
            trace="".join(traceback.format_exception(error)),
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> "Trouble":
        """Return what ``to_json`` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return all of it as text."""
        return json.dumps(asdict(self))

    @property
    def common(self) -> bool:
        """Whether other processes will find the same by themselves, so that one can say it."""
        return self.lost or self.exit_code == StopRequested.exit_code

    def error(self, *, elsewhere: bool = False) -> MmrunError:
        """Return the error to raise, here or in process 0; it carries the trace."""
        error: MmrunError
        if self.exit_code == StopRequested.exit_code:
            error = StopRequested(self.problem, hint=self.hint, by_keyboard=self.by_keyboard)
        else:
            error = _KINDS.get(self.exit_code, MmrunError)(self.problem, hint=self.hint)
        error.add_note(f"in process {self.rank}:\n{self.trace}")
        error.said = elsewhere and not self.common
        return error


def _in_words(error: BaseException, *, rank: int, lost: bool) -> MmrunError:
    if lost:
        return MmrunError("another process of this training is gone", hint=AGAIN)
    first = str(error).partition("\n")[0]
    return MmrunError(
        f"{type(error).__name__} in process {rank}: {first}",
        hint="the same with --verbose to see where, and report it if it is ours",
    )


def _another_is_gone(error: BaseException) -> bool:
    """Tell whether a collective call failed because a process that takes part is not there."""
    from torch.distributed import DistError

    # gloo raises what any operator of torch may raise; only its text tells.
    told_by_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return told_by_gloo or isinstance(error, DistError)
