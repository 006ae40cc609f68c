"""What is done to a training, and what the next attempt finds: chosen at random; no I/O."""

import random
from dataclasses import dataclass
from typing import Literal

Found = Literal["everything", "no local checkpoints", "another machine"]
"""What the next attempt finds of the output folder: all, all but its checkpoints, nothing."""
SignalName = Literal["SIGKILL", "SIGTERM", "SIGINT"]

_SAVING = (
    "checkpoint.saved",
    "checkpoint.manifest",
    "checkpoint.renamed",
    "spool.linked",
    "upload.files",
    "upload.manifest",
)
_ELSEWHERE = (
    "run.created",
    "attempt.opened",
    "points.sent",
    "upload.file",
    "restore.file",
    "prune.manifest",
    "prune.files",
    "prune.collect",
    "ended",
)
_TELLING = ("offline.made", "offline.noted", "offline.renamed", "offline.told", "points.sent")
"""On the way from a training without a server to the server."""
OFFLINE = 0.25
"""The share of attempts that ask no server, where they need none."""
_EARLY = 0.15
"""The share of runs whose first death comes before anything was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a training left alone does: when it ends, and what it does on the way."""

    steps: int
    save_every: int
    eval_every: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """One interruption: at a named moment, or some time after something was said."""

    then: Found
    moment: str | None = None
    """For ``MMRUN_KILL_AT``; None where a signal comes from outside."""
    line: str = ""
    """What a line of the training begins with when the time begins to run; empty: its start."""
    after_s: float = 0.0
    signal: SignalName = "SIGKILL"

    def __str__(self) -> str:
        where = self.moment or f"{self.after_s:.2f} s after {self.line or 'its start'}"
        return f"{self.signal} at {where}; the next attempt finds {self.then}"


def draw(chance: random.Random, shape: Shape, *, first: bool, tells: bool) -> Kill:
    """Choose an interruption; the ``first`` one of a run may come before it is one.

    ``tells`` is for an attempt that begins with telling a server what was trained without it.
    """
    found: tuple[Found, ...] = ("everything", "no local checkpoints", "another machine")
    (then,) = chance.choices(found, weights=(3, 2, 1))
    if first and chance.random() < _EARLY:
        return Kill(after_s=chance.uniform(0.3, 8.0), then=then)
    steps = range(1, shape.steps + 1)
    saved = [*range(shape.save_every, shape.steps, shape.save_every), shape.steps]
    evaluated = range(shape.eval_every, shape.steps + 1, shape.eval_every)
    ways = {
        f"step@{chance.choice([*steps, 1, shape.steps])}": 5,
        f"evaluation@{chance.choice(evaluated)}": 2,
        f"{chance.choice(_SAVING)}@{chance.choice(saved)}": 5,
        chance.choice(_TELLING if tells else _ELSEWHERE): 3,
        "": 5,
    }
    (moment,) = chance.choices(list(ways), weights=list(ways.values()))
    if moment:
        return Kill(moment=moment, then=then)
    signals: tuple[SignalName, ...] = ("SIGKILL", "SIGTERM", "SIGINT")
    return Kill(
        line=f"step {chance.choice(evaluated)}:",
        after_s=chance.uniform(0, 0.4),
        signal=chance.choices(signals, weights=(2, 2, 1))[0],
        then=then,
    )
