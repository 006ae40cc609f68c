"""Translate a split with a checkpoint, score it, and record both as a child of the run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from mmrun.checkpoints.found import Found
from mmrun.checkpoints.policy import Lineage, Saved, superseded
from mmrun.checkpoints.reference import LATEST, Reference, parse
from mmrun.config.loading import Override, flat
from mmrun.config.schema import Experiment, Split
from mmrun.errors import CheckpointError, ConfigError, StopRequested
from mmrun.provenance.data import data_version
from mmrun.tracking import launcher, orphan
from mmrun.tracking.attempts import changes
from mmrun.tracking.run_file import read_run_file
from mmrun.training.metrics import check_metrics
from mmrun.training.stopping import StopWish
from mmrun.workflows.actors import (
    Actors,
    built_streams,
    missing_steps,
    stream_names,
    with_modality,
)
from mmrun.workflows.beginning import archive
from mmrun.workflows.generation_identity import rows_identity
from mmrun.workflows.generation_run import GenerationRun
from mmrun.workflows.kept_rows import kept_rows
from mmrun.workflows.past import Past, read_past
from mmrun.workflows.place import Place, find_place
from mmrun.workflows.predictions import Translated, write_predictions
from mmrun.workflows.recipe import setup_folder
from mmrun.workflows.setup import run_setup
from mmrun.workflows.translating import translate

logger = logging.getLogger(__name__)

BEST = Reference(text="best", which="best")
KEPT = ".generate"
"""Below the output folder, where DVC removes nothing: rows that are done, until all are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """What the command line asked for; ``reference`` None is the best checkpoint, else the last."""

    experiment: Experiment | None
    config_path: Path | None = None
    overrides: tuple[Override, ...] = ()
    output_dir: Path | None = None
    setup_path: Path | None = None
    reference: str | None = None
    split: Split = "test"
    offline: bool = False
    """Whether no server is asked, nor told."""

    @property
    def resume_from_checkpoint(self) -> str | None:
        """The reference, under the name it has in a training."""
        return self.reference

    @property
    def overwrite_output_dir(self) -> bool | None:
        """Nothing is overwritten here."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The checkpoint that is used, where it lies, and how it is called."""

    found: Found
    folder: Path
    name: str
    why: str
    """``best``, ``latest``, or the words of the user."""


def generate(request: GenerateRequest) -> str:
    """Translate the split and return what is to be said about it."""
    if launcher.under_wrapper():
        orphan.stop_with_wrapper()
    with _stoppable():
        place = find_place(_complete(request), offline=request.offline)
        _check(place.experiment, request.split)
        return _generate(place, request)


def _complete(request: GenerateRequest) -> GenerateRequest:
    """Say what the file does not: the folder that the checkpoint lies in, and the modality."""
    experiment, folder = request.experiment, request.output_dir
    if experiment is None:
        return request
    if folder is None and experiment.training.output_dir is None:
        folder = _folder_of(parse(request.reference or ""))
    experiment = with_modality(experiment, output_dir=folder, setup_path=request.setup_path)
    return replace(request, experiment=experiment, output_dir=folder)


def _folder_of(reference: Reference | None) -> Path | None:
    """Return the output folder around a checkpoint, if there is a run in it."""
    if reference is None or reference.path is None:
        return None
    folder = reference.path.absolute().parent.parent
    return folder if read_run_file(folder) is not None else None


def _generate(place: Place, request: GenerateRequest) -> str:
    split = request.split
    past = read_past(place.store, place.run, place.run_file) if place.run else Past()
    chosen = _choose(place, past)
    own = chosen.folder if chosen.found.manifest is not None else None
    if own is not None:
        _tell_unused(place, past, chosen.name)
    actors = _actors(place, request.setup_path, own=own)
    data = data_version(place.experiment, cache=place.output_dir / ".digests.json")
    key = rows_identity(place.experiment, chosen.found, data=data, split=split)
    with kept_rows(place.output_dir / KEPT / f"{chosen.name}.{key}") as kept:
        run = _run(place, chosen, split=split, data=data)
        with run.recorded() if run is not None else nullcontext():
            translated = translate(place.experiment, chosen.folder, actors, split=split, kept=kept)
            files = write_predictions(translated, _folder(place, chosen, split=split))
            if run is not None:
                run.log(translated.columns, scores=translated.scores, files=files)
        kept.forget()
    if place.run is not None:
        launcher.sweep(place.store, place.run.experiment_id)
    return _said(chosen, translated, table=files[0], recorded=run is not None)


def _tell_unused(place: Place, past: Past, name: str) -> None:
    """Name what the experiment says otherwise of what the checkpoint itself has."""
    if past.last is None:
        return
    changed = changes(past.flat_config, flat(place.experiment))
    keys = [
        key
        for key in changed
        if key.partition(".")[0] in {"model", "processor"} or key == "data.signal_start_end_unit"
    ]
    if keys:
        logger.warning("without effect: %s: %s has its own", ", ".join(keys), name)


def _run(place: Place, chosen: Chosen, *, split: Split, data: str) -> GenerationRun | None:
    """Return what records the translation; None where no server is to be told."""
    if place.offline:
        return None
    return GenerationRun(place, chosen.found, name=chosen.name, split=split, data=data)


def _folder(place: Place, chosen: Chosen, *, split: Split) -> Path:
    """Return where the predictions go; another split than usual does not replace those of it."""
    folder = place.output_dir / "generate"
    return (folder if split == "test" else folder / split) / chosen.name


def _said(chosen: Chosen, translated: Translated, *, table: Path, recorded: bool) -> str:
    scores = ", ".join(f"{name} {value:.4g}" for name, value in translated.scores.items())
    which = chosen.name if chosen.why in chosen.name else f"{chosen.name} ({chosen.why})"
    said = f"{which}: {scores or 'no metric is named'}; predictions in {table}"
    if translated.unreadable:
        count, total = translated.unreadable, len(translated.written)
        said += f"; {count} of {total} rows could not be read and are not scored"
    return said if recorded else f"{said}; not recorded in MLflow, being offline"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a signal end the work, so that it can be said of the run."""
    try:
        with StopWish().listening():
            yield
    except StopRequested as stop:
        raise StopRequested(
            "stopped before everything was translated; the rows that are done are kept",
            hint="run the same command again: it goes on with the others",
            by_keyboard=stop.by_keyboard,
        ) from stop


def _check(experiment: Experiment, split: Split) -> None:
    """Refuse what would only be noticed when everything is translated."""
    check_metrics(experiment.training.metric_name)
    if experiment.data.manifest(split) is None:
        raise ConfigError(
            f"data.{split}_metadata_file: is not given", hint=f"name the TSV of the {split} split"
        )


def _choose(place: Place, past: Past) -> Chosen:
    if place.run is None and (place.reference is None or place.reference.path is None):
        raise CheckpointError(
            f"no trained run belongs to {place.output_dir}",
            hint="run 'mmrun train' first, or name a checkpoint with --model_name_or_path",
        )
    reference, (found, folder) = _obtain(place, past.lineage)
    name = _name(found, past.lineage)
    return Chosen(found=found, folder=folder, name=name, why=reference.text)


def _obtain(place: Place, lineage: Lineage) -> tuple[Reference, tuple[Found, Path]]:
    checkpoints = archive(place)
    if place.reference is not None:
        return place.reference, checkpoints.obtain(place.reference, lineage=lineage)
    if str(place.experiment.training.arguments.get("eval_strategy", "no")) != "no":
        try:
            return BEST, checkpoints.obtain(BEST, lineage=lineage)
        except CheckpointError as error:
            logger.info("%s; the latest is used", error)
    return LATEST, checkpoints.obtain(LATEST, lineage=lineage)


def _name(found: Found, lineage: Lineage) -> str:
    """Return what the checkpoint is called, wherever a copy of it lies."""
    manifest = found.manifest
    if manifest is None or manifest.average_of:
        return found.name
    dead = superseded(Saved.of(manifest, name=found.name), lineage)
    return f"checkpoint-{found.step}" + (f".a{manifest.attempt}" if dead else "")


def _actors(place: Place, setup_path: Path | None, *, own: Path | None) -> Actors:
    """Return the actors; the model is in the checkpoint, and in one of mmrun's the processor.

    ``own`` is the folder of a checkpoint of mmrun's.
    """
    folder = setup_folder(place, setup_path)
    missing = missing_steps(place.experiment, folder)
    if own is None:
        if steps := missing & {"dataset", "processor"}:
            run_setup(place.experiment, folder=folder, steps=steps)
        return Actors.of(folder)
    from mmrun.data.processor import load_processor

    if "dataset" in missing or built_streams(folder) != stream_names(own):
        run_setup(
            place.experiment,
            folder=folder,
            steps=["dataset"],
            reader=load_processor(own),
            rebuild_dataset=True,
        )
    return Actors.of(folder)
