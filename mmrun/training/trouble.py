"""What went wrong in one of several processes, in a form that the others can be told."""

import json
import re
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
_IN_WORKER = "in DataLoader worker process"
_DEATH = re.compile(r"DataLoader worker \(pid \d+\) is killed by signal: ([^.\n]+)")
_GONE = re.compile(r"DataLoader worker \(pid\(s\) [\d, ]+\) exited unexpectedly")
_FEWER_WORKERS = "fewer --dataloader_num_workers, or more memory"
_DEATHS = {
    "Killed": (
        "killed by SIGKILL, most likely because the machine is out of memory",
        _FEWER_WORKERS,
    ),
    "Bus error": (
        "most likely shared memory (/dev/shm) is full",
        "fewer --dataloader_num_workers, or more shared memory (docker: --shm-size)",
    ),
}
"""By the name of the signal, what is most likely the cause, and what helps."""
_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|CUDA error: out of memory|HIP out of memory|MPS backend out of memory"
    r"|DefaultCPUAllocator: (can't|not enough)"
)
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
    known = explained(error)
    if known is not None:
        return MmrunError(f"{known} in process {rank}", hint=f"{known.hint}; {AGAIN}")
    return MmrunError(
        f"{in_one_line(error)} in process {rank}",
        hint="the same with --verbose to see where, and report it if it is ours",
    )


def explained(error: BaseException) -> MmrunError | None:
    """Say in our words what a library says in its own; None for what we know nothing of."""
    if (died_of := _worker_died_of(error)) is not None:
        why, hint = _DEATHS.get(died_of, (died_of, "fewer --dataloader_num_workers may help"))
        return MmrunError(f"a data loader worker died: {why}", hint=hint)
    if _GONE.search(str(error)):  # torch found it gone before it heard what of
        why = "most likely because the machine is out of memory"
        return MmrunError(f"a data loader worker died, {why}", hint=_FEWER_WORKERS)
    if isinstance(error, MemoryError):
        if _IN_WORKER in str(error):
            return MmrunError("a data loader worker is out of memory", hint=_FEWER_WORKERS)
        return MmrunError("out of memory", hint="a smaller batch, or more memory")
    if _OUT_OF_MEMORY.search(str(error)):
        evaluates = _evaluates(error)
        smaller = f"a smaller --per_device_{'eval' if evaluates else 'train'}_batch_size"
        more = "" if evaluates else " with more --gradient_accumulation_steps"
        return MmrunError(in_one_line(error), hint=smaller + more)
    return None


def in_one_line(error: BaseException) -> str:
    """Return type and text of an error; of one in a loader worker what happened there."""
    text = str(error).strip()
    if _IN_WORKER in text:  # torch makes the whole traceback the text
        return f"{text.splitlines()[-1]} (in a data loader worker)"
    first = text.partition("\n")[0]
    return f"{type(error).__name__}{': ' if first else ''}{first}"


def _worker_died_of(error: BaseException) -> str | None:
    """Return the signal that a loader worker died of, if that is what ``error`` comes from."""
    chain: BaseException | None = error
    while chain is not None:
        if (found := _DEATH.search(str(chain))) is not None:
            return found[1]
        chain = chain.__cause__ or chain.__context__
    return None


def _evaluates(error: BaseException) -> bool:
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name == "evaluation_loop" for frame, _ in frames)


def _another_is_gone(error: BaseException) -> bool:
    """Tell whether a collective call failed because a process that takes part is not there."""
    from torch.distributed import DistError

    # gloo raises what any operator of torch may raise; only its text tells.
    told_by_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return told_by_gloo or isinstance(error, DistError)
