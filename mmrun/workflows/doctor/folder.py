"""The output folder: whose it is, who works in it, what waits there, and whether there is room."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import DiskFullError, UsageError
from mmrun.files import size_of
from mmrun.tracking.lease import holder
from mmrun.tracking.offline_store import unknown_run
from mmrun.tracking.signs_of_life import life_of
from mmrun.workflows.checkpoints.sizes import in_words as bytes_in_words
from mmrun.workflows.doctor.finding import Finding, fail, failed, ok, warn
from mmrun.workflows.doctor.patient import Patient
from mmrun.workflows.ending import read_ending
from mmrun.workflows.output_folder import in_words, refuse_foreign, unsent
from mmrun.workflows.runs import state_of

_USUAL_KEEP = 2
_STATES_OF_A_WEIGHT = 3
"""A checkpoint holds each trained weight, and two numbers of the optimizer for it."""
_LEAST_FREE = 100_000_000


def run_here(patient: Patient) -> Iterator[Finding]:
    """Say which run the folder belongs to, and who works on it."""
    folder = patient.output_dir
    if folder is None:
        yield ok("none given: training.output_dir is not set")
        return
    if patient.folder_error is not None:
        yield failed(patient.folder_error)
        return
    refuse_foreign(folder)
    nearest = _nearest(folder)
    if not os.access(nearest, os.W_OK):
        yield fail(
            f"{nearest} cannot be written to",
            "give another --output_dir, or see whose it is",
            exit_code=UsageError.exit_code,
        )
    elif patient.run_file is None:
        yield ok(f"{folder} belongs to no run yet")
    elif unknown_run(folder) is not None:
        yield warn(
            f"{folder} belongs to run {patient.run_file.run_id}, which no server knows yet",
            f"'mmrun sync {folder}' makes it there",
        )
    elif patient.store is None:
        yield warn(
            f"{folder} belongs to run {patient.run_file.run_id}, which cannot be asked for now",
            "the tracking server first",
        )
    else:
        patient.run = patient.store.read(patient.run_file.run_id)
        yield _worked_on(patient, folder)


def _worked_on(patient: Patient, folder: Path) -> Finding:
    run = patient.run
    if run is None:
        raise AssertionError("the run was read before")
    life, held_by = life_of(run), holder(run)
    fact = f"{folder} belongs to run {run.run_id}, {state_of(run, life)}"
    if held_by is None:
        return ok(fact)
    if life == "dead":
        return warn(
            f"{fact}: {held_by.process} is gone",
            "'mmrun train' goes on with it; 'mmrun reap' calls it KILLED",
        )
    if life == "unknown":
        return warn(
            f"{fact}: {held_by.process} has it, or had it when it died",
            "'mmrun runs --watch' tells in 30 s; a training waits as long, and then takes it over",
        )
    return ok(f"{fact}: {held_by.process} works on it")


def waiting(patient: Patient) -> Iterator[Finding]:
    """Say what the store does not have yet."""
    folder = patient.output_dir
    if folder is None or not folder.is_dir() or patient.folder_error is not None:
        return
    waits = unsent(folder)
    ending = read_ending(folder / "journal")
    if not waits and ending is None:
        yield ok("everything was sent")
        return
    said = [in_words(waits)] if waits else []
    if ending is not None:
        said.append("how the last attempt ended")
    spool = Spool(folder / "spool")
    tries = [str(spool.state(one.name)) for one in spool.waiting()[:1]]
    why = f" (the first checkpoint: {tries[0]})" if tries else ""
    yield warn(f"not sent yet: {', '.join(said)}{why}", f"mmrun sync {folder}")


def disk(patient: Patient) -> Iterator[Finding]:
    """Compare what the next checkpoints need with what is free."""
    one, source = _size_of_one(patient.output_dir)
    if patient.output_dir is not None:
        yield _room(patient, one, source)
    scratch = Path(tempfile.gettempdir())
    free = shutil.disk_usage(scratch).free
    fact = f"{bytes_in_words(free)} free in {scratch}, for files on their way"
    if free < max(one, _LEAST_FREE):
        yield warn(fact, "make room, or set TMPDIR to a folder that has it")
    else:
        yield ok(fact)


def _room(patient: Patient, one: int, source: str) -> Finding:
    folder = patient.output_dir or Path()
    free = shutil.disk_usage(_nearest(folder)).free
    if not one:
        fact = f"{bytes_in_words(free)} free for {folder}; how big a checkpoint is is not known yet"
        return ok(fact) if free > _LEAST_FREE else warn(fact, "make room on the disk")
    keep = patient.experiment.training.save_total_limit or _USUAL_KEEP
    need = one * keep + size_of(folder / "spool")
    fact = (
        f"{bytes_in_words(free)} free for {folder}, {keep} checkpoints of {bytes_in_words(one)} "
        f"({source}) and what waits need {bytes_in_words(need)}"
    )
    if free < one:
        remedy = "make room, or lower training.save_total_limit"
        return fail(fact, remedy, exit_code=DiskFullError.exit_code)
    return ok(fact) if free > need else warn(fact, "make room before it is needed")


def _size_of_one(folder: Path | None) -> tuple[int, str]:
    """Return how many bytes a checkpoint has, and how that is known."""
    if folder is None:
        return 0, ""
    saved = LocalCheckpoints(folder / "train").list()
    if saved:
        return saved[0][1].size, "as the newest"
    weights = sum(file.stat().st_size for file in folder.glob("setup/model/*.safetensors"))
    return weights * _STATES_OF_A_WEIGHT, "by the size of the model"


def _nearest(folder: Path) -> Path:
    """Return the folder itself, or the one in which it will be made."""
    absolute = folder.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())
