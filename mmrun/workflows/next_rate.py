"""The learning rate of the step that a training would do next; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.config.training_fields import training_value
from mmrun.data.manifest import read_manifest
from mmrun.data.pipeline import resolve_pipeline
from mmrun.training.position import (
    NAME,
    Position,
    foreign_position,
    parse_position,
    read_position,
    total_steps,
)
from mmrun.training.schedules import LOOKING_BACK, Schedule, factor
from mmrun.workflows.actors import built_rows, leaves_rows_out
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.recipe import setup_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class NextRate:
    """What the next step is taken with, as far as it is known."""

    step: int
    schedule: str
    total: int | None
    """Steps of the whole training; None where the number of samples is not known yet."""
    rate: float | None
    """None where ``total`` is not known, all steps are done, or the schedule looks back."""
    stopped_early: bool = False
    """Whether the checkpoint is of a training that early stopping had ended."""

    def __str__(self) -> str:
        if self.total is not None and self.step > self.total:
            return f"none: all {self.total} steps are done"
        if self.schedule in LOOKING_BACK:
            known = "as the metric has it, which the schedule looks back at"
        elif self.rate is None:
            known = "unknown until the data set is built"
        else:
            known = f"{self.rate:.6g}"
        return f"step {self.step}: {known} ({self.schedule})"


def next_rate(beginning: Beginning, *, setup_path: Path | None) -> NextRate:
    """Say which rate the training's next step has, as the trainer would count its steps."""
    arguments = beginning.place.experiment.training.arguments
    before = _saved_position(beginning)
    total = _total(beginning, before, setup_path=setup_path)
    schedule = Schedule.of(arguments, total=total or 0)
    known = schedule.kind == "constant" if total is None else beginning.step < total
    share = factor(schedule, done=beginning.step) if known else None
    return NextRate(
        step=beginning.step + 1,
        schedule=schedule.kind,
        total=total,
        rate=None if share is None else share * schedule.rate,
        stopped_early=before is not None and before.stopped_early,
    )


def _total(beginning: Beginning, saved: Position | None, *, setup_path: Path | None) -> int | None:
    arguments = beginning.place.experiment.training.arguments
    max_steps = int(training_value(arguments, "max_steps"))
    if max_steps > 0:
        return max_steps
    size = _samples(beginning, setup_path=setup_path)
    if size is None:
        return None
    loader = _loader(arguments, size=size, processes=beginning.processes)
    before = saved or _foreign_position(beginning, loader)
    epochs = training_value(arguments, "num_train_epochs")
    return total_steps(before, epochs=epochs, **loader)


def _loader(arguments: Mapping[str, Any], *, size: int, processes: int) -> dict[str, Any]:
    return {
        "size": size,
        "batch": training_value(arguments, "per_device_train_batch_size") * processes,
        "accumulation": training_value(arguments, "gradient_accumulation_steps"),
        "drop_last": training_value(arguments, "dataloader_drop_last"),
    }


def _samples(beginning: Beginning, *, setup_path: Path | None) -> int | None:
    """Return how many samples there are to train on; None where only `setup` can say it."""
    experiment = beginning.place.experiment
    data, manifest = experiment.data, experiment.data.manifest("train")
    if manifest is None:
        return None
    if not leaves_rows_out(data):
        columns = resolve_pipeline(experiment.processor, data=data).columns
        rows = len(read_manifest(manifest, split="train", columns=columns))
    else:  # for what lies in their files
        built = built_rows(experiment, setup_folder(beginning.place, setup_path))
        if built is None:
            return None
        rows = built["train"]
    return min(rows, data.max_train_samples or rows)


def _saved_position(beginning: Beginning) -> Position | None:
    """Return where the training stands, by the checkpoint here or in the store."""
    found = beginning.found
    if found is None:
        return None
    if found.path is not None:
        return read_position(found.path)
    run_id = found.manifest.run_id if found.manifest else beginning.place.run_id
    stored = RemoteCheckpoints(beginning.place.store.artifacts(run_id))
    text = stored.read(found.name, NAME)
    return None if text is None else parse_position(text, place=found.name)


def _foreign_position(beginning: Beginning, loader: Mapping[str, Any]) -> Position | None:
    if beginning.found is None:
        return None
    shape = {name: loader[name] for name in ("size", "batch", "accumulation")}
    return foreign_position(step=beginning.found.step, **shape)
