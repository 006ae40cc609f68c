"""What the Trainer forgets between two attempts, and where an epoch is entered again.

The Trainer's own files hold weights, optimizer, schedule and generator states. They do not hold
the running loss between two log lines, the position in the epoch in samples, or whether the end of
the epoch (its evaluation, its log line) was still to come. `mmrun_state.json` does.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mmrun.data.start import Start
from mmrun.errors import CheckpointError

FORMAT = 2
Left = Literal["step", "epoch"]
NAME = "mmrun_state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a training stood when a checkpoint was saved."""

    step: int
    epoch: int
    """The epoch that the last sample came from, counted from 0."""
    samples: int
    """Samples of that epoch that were trained on, over all processes."""
    epoch_done: bool
    """Whether the end of that epoch (log line, evaluation) was passed too."""
    evaluation_left: Left | None = None
    """Of what the evaluation was begun, and left to the next attempt."""
    running_losses: tuple[float, ...] = (0.0,)
    """Sum of the losses since the last log line, of each process."""
    total_loss: float = 0.0
    """Sum of the losses up to the last log line, from step ``counted_from`` on."""
    counted_from: int = 0
    last_logged_step: int = 0
    elapsed_s: float = 0.0
    """Seconds of training, over all attempts."""
    grad_norm: float | None = None
    learning_rate: float | None = None
    stopped_early: bool = False
    best_by: str | None = None
    """The metric that ``best_metric`` of the Trainer's state belongs to."""
    greater_is_better: bool | None = None
    """The direction of that metric."""
    base_rate: float | None = None
    """The argument ``learning_rate`` that the schedule was made with."""
    length_group: int = 0
    """Samples that `group_by_length` put together in this epoch."""
    order_seed: int | None = None
    """The seed of the order of this epoch."""
    sampling: str | None = None
    """The argument ``train_sampling_strategy`` that this epoch was begun with."""
    seed: int | None = None
    """The argument ``seed``, which the generators began from."""
    skipped: int = 0
    """Samples that did not count, because a signal could not be read, up to here."""
    optimizer: str = ""
    parameters: tuple[tuple[str, ...], ...] = ()
    """Names of the optimizer's parameters, group by group."""

    def running_loss_of(self, rank: int, *, processes: int) -> float:
        """Return the sum of one of ``processes``; the log line is of their mean."""
        if len(self.running_losses) == processes:
            return self.running_losses[rank]
        return math.fsum(self.running_losses) / len(self.running_losses)


def write_position(folder: Path, position: Position) -> None:
    """Write `mmrun_state.json` into a checkpoint that has not got its final name yet."""
    content = {"format": FORMAT, **asdict(position)}
    (folder / NAME).write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_position(folder: Path) -> Position | None:
    """Return the position of a checkpoint, or None for one that plain Hugging Face wrote."""
    try:
        text = (folder / NAME).read_bytes()
    except FileNotFoundError:
        return None
    return parse_position(text, place=str(folder))


def parse_position(text: bytes, *, place: str) -> Position:
    """Return the position that was written in the checkpoint at ``place``."""
    content = json.loads(text)
    found = content.pop("format")
    if found not in {1, FORMAT}:
        raise CheckpointError(
            f"{place}/{NAME} has format {found}; this mmrun reads format {FORMAT}",
            hint="resume with the mmrun that wrote it",
        )
    if found == 1:  # it knew one process only
        content["running_losses"] = [content.pop("running_loss")]
    content["running_losses"] = tuple(content["running_losses"])
    content["parameters"] = tuple(tuple(group) for group in content["parameters"])
    return Position(**content)


def foreign_position(*, step: int, size: int, batch: int, accumulation: int) -> Position:
    """Return the position of a checkpoint of plain Hugging Face, in steps of today's batch size."""
    steps_per_epoch = math.ceil(math.ceil(size / batch) / accumulation)
    epoch, steps = divmod(step, steps_per_epoch)
    return Position(
        step=step,
        epoch=epoch - 1 if steps == 0 else epoch,
        samples=size if steps == 0 else min(steps * accumulation * batch, size),
        epoch_done=steps == 0,
        counted_from=step,
        last_logged_step=step,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """How the Trainer's loop enters an epoch that was begun by an earlier attempt."""

    epoch: int
    skip: int
    """Batches of a process that earlier attempts did, in batches of today."""
    batches: int
    """Batches of a process in this epoch, those included."""
    start: Start

    @property
    def nothing_left(self) -> bool:
        """Whether only the end of the epoch is still to come."""
        return self.skip == self.batches


def enter(
    position: Position, *, size: int, batch: int, accumulation: int, drop_last: bool
) -> Entry:
    """Return how to go on from ``position`` with today's batch size.

    Args:
        position: Where the training stood.
        size: Samples in the training set.
        batch: Samples of a micro-batch, over all processes.
        accumulation: Micro-batches of an optimizer step.
        drop_last: Whether an incomplete last batch is left out.
    """
    rounded = math.floor if drop_last else math.ceil
    whole = rounded(size / batch)
    if position.epoch_done:
        return Entry(
            epoch=position.epoch + 1,
            skip=0,
            batches=whole,
            start=Start(epoch=position.epoch + 1, done=0),
        )
    done = min(position.samples, size)
    left = rounded((size - done) / batch)
    # A step is a group of `accumulation` batches, and the steps of an epoch are counted in groups.
    skip = whole if left == 0 else (whole - left) // accumulation * accumulation
    return Entry(
        epoch=position.epoch,
        skip=skip,
        batches=skip + left,
        start=Start(epoch=position.epoch, done=done),
    )


def total_steps(
    before: Position | None,
    *,
    epochs: float,
    size: int,
    batch: int,
    accumulation: int,
    drop_last: bool,
) -> int:
    """Return the step at which ``epochs`` are done: those begun before in batches of then.

    ``before`` is where the training goes on, None for a new one; the rest is as for ``enter``.
    """
    batches = (math.floor if drop_last else math.ceil)(size / batch)
    updates = max(math.ceil(batches / accumulation), 1)
    whole = math.ceil(epochs * updates)
    if before is None:
        return whole
    entry = enter(before, size=size, batch=batch, accumulation=accumulation, drop_last=drop_last)
    left = whole - entry.epoch * updates - math.ceil(entry.skip / accumulation)
    return before.step + max(left, 0)
