"""Translate a split with a checkpoint, score it, and record both as a child of the run."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrun.checkpoints.found import Found
from mmrun.checkpoints.policy import Lineage, Saved, superseded
from mmrun.checkpoints.reference import LATEST, Reference
from mmrun.collector import collect_as_usual
from mmrun.config.loading import Override
from mmrun.config.schema import Experiment, Split
from mmrun.errors import CheckpointError, ConfigError, StopRequested
from mmrun.files import folder_whole, write_whole
from mmrun.progress import hide_library_bars, progress
from mmrun.tracking import launcher, orphan
from mmrun.training.metrics import check_metrics
from mmrun.training.stopping import StopWish
from mmrun.workflows.actors import Actors, missing_steps
from mmrun.workflows.beginning import archive
from mmrun.workflows.generation_run import GenerationRun
from mmrun.workflows.past import read_past
from mmrun.workflows.place import Place, find_place
from mmrun.workflows.recipe import setup_folder
from mmrun.workflows.setup import run_setup

if TYPE_CHECKING:
    from mmrun.data.dataset import SampleDataset
    from mmrun.data.processor import MultimodalProcessor

logger = logging.getLogger(__name__)

BEST = Reference(text="best", which="best")
TSV, LINES, SCORES = "predictions.tsv", "predictions.jsonl", "scores.json"
_SAMPLE_COLUMNS = ("signal", "encoder_prompt", "decoder_prompt")


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
class Translated:
    """The rows of a split with what was written for them."""

    columns: Mapping[str, Sequence[str]]
    scores: Mapping[str, float]


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
        place = find_place(request, offline=request.offline)
        _check(place.experiment, request.split)
        return _generate(place, request)


def _generate(place: Place, request: GenerateRequest) -> str:
    chosen = _choose(place)
    actors = _actors(place, request.setup_path, own=chosen.found.manifest is not None)
    run = _run(place, chosen, split=request.split)
    with run.recorded() if run is not None else nullcontext():
        translated = _translate(place.experiment, chosen.folder, actors, split=request.split)
        folder = place.output_dir / "generate" / chosen.name
        _write(translated, folder)
        if run is not None:
            files = [folder / name for name in (TSV, LINES, SCORES)]
            run.log(translated.columns, scores=translated.scores, files=files)
    if place.run is not None:
        launcher.sweep(place.store, place.run.experiment_id)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in translated.scores.items())
    which = chosen.name if chosen.why in chosen.name else f"{chosen.name} ({chosen.why})"
    said = f"{which}: {scores or 'no metric is named'}; predictions in {folder / TSV}"
    return said if run is not None else f"{said}; not recorded in MLflow, being offline"


def _run(place: Place, chosen: Chosen, *, split: Split) -> GenerationRun | None:
    """Return what records the translation; None where no server is to be told."""
    if place.offline:
        return None
    return GenerationRun(place, chosen.found, name=chosen.name, split=split)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a signal end the work, so that it can be said of the run."""
    try:
        with StopWish().listening():
            yield
    except StopRequested as stop:
        raise StopRequested(
            "stopped before everything was translated; nothing of it is kept",
            hint="run the same command again",
            by_keyboard=stop.by_keyboard,
        ) from stop


def _check(experiment: Experiment, split: Split) -> None:
    """Refuse what would only be noticed when everything is translated."""
    check_metrics(experiment.training.metric_name)
    if experiment.data.manifest(split) is None:
        raise ConfigError(
            f"data.{split}_metadata_file: is not given", hint=f"name the TSV of the {split} split"
        )


def _choose(place: Place) -> Chosen:
    if place.run is None and (place.reference is None or place.reference.path is None):
        raise CheckpointError(
            f"no trained run belongs to {place.output_dir}",
            hint="run 'mmrun train' first, or name a checkpoint with --model_name_or_path",
        )
    lineage = read_past(place.store, place.run, place.run_file).lineage if place.run else ()
    reference, (found, folder) = _obtain(place, lineage)
    name = _name(found, lineage)
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


def _actors(place: Place, setup_path: Path | None, *, own: bool) -> Actors:
    """Return the actors; the model is in the checkpoint, and in one of mmrun's the processor."""
    folder = setup_folder(place, setup_path)
    needed = {"dataset"} if own else {"dataset", "processor"}
    missing = missing_steps(place.experiment, folder) & needed
    if missing:
        run_setup(place.experiment, folder=folder, steps=missing)
    return Actors.of(folder)


def _translate(
    experiment: Experiment, checkpoint: Path, actors: Actors, *, split: Split
) -> Translated:
    from mmrun.data.dataset import load_dataset_actor
    from mmrun.data.processor import load_processor
    from mmrun.tasks.translation import decode
    from mmrun.training.metrics import score

    hide_library_bars()
    names = experiment.training.metric_name
    own = (checkpoint / "processor_config.json").exists()
    processor = load_processor(checkpoint if own else actors.processor)
    datasets = load_dataset_actor(actors.dataset, data=experiment.data, processor=processor)
    dataset = datasets[split]
    tokens = _tokens(experiment, checkpoint, processor=processor, dataset=dataset)
    predictions = decode(tokens, processor=processor, dataset=dataset)
    references = dataset.column("output")
    return Translated(
        columns={
            **{name: dataset.column(name) for name in _SAMPLE_COLUMNS},
            "reference": references,
            "prediction": predictions,
        },
        scores=score(names, predictions=predictions, references=references),
    )


def _tokens(
    experiment: Experiment,
    checkpoint: Path,
    *,
    processor: "MultimodalProcessor",
    dataset: "SampleDataset",
) -> Any:
    """Return the generated ids of every row ``[N, L]``, filled up with ids that count nowhere."""
    import torch
    from torch.utils.data import DataLoader

    from mmrun.models.build import load_model
    from mmrun.tasks.translation import check_room, collator, generation_arguments
    from mmrun.training.workers import begin_worker

    given = experiment.training.arguments
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    model: Any = load_model(checkpoint)
    collect_as_usual()
    options = generation_arguments(experiment.generation)
    if "max_new_tokens" not in options:
        limit = options.get("max_length", model.generation_config.max_length)
        check_room(limit, processor=processor, dataset=dataset)
    model.to(device).eval()
    loader = DataLoader(
        dataset,
        batch_size=int(given.get("per_device_eval_batch_size", 8)),
        collate_fn=collator(processor),
        num_workers=int(given.get("dataloader_num_workers", 0)),
        worker_init_fn=begin_worker(),
    )
    written = []
    for batch in progress(loader, total=len(loader), label="generate", unit="batches"):
        inputs = {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
        written.append(model.generate(**inputs, **options).cpu())
    return _stacked(written)


def _stacked(batches: Sequence[Any]) -> Any:
    import numpy as np

    from mmrun.data.collator import IGNORED

    total, longest = sum(map(len, batches)), max(batch.shape[1] for batch in batches)
    tokens = np.full((total, longest), IGNORED, dtype=np.int64)
    row = 0
    for batch in batches:
        tokens[row : row + len(batch), : batch.shape[1]] = batch.numpy()
        row += len(batch)
    return tokens


# Files


def _write(translated: Translated, folder: Path) -> None:
    """Write predictions and scores whole; the scores also where DVC finds the newest ones."""
    columns = translated.columns
    rows = list(zip(*columns.values(), strict=True))
    scores = json.dumps(dict(translated.scores), indent=1) + "\n"
    with folder_whole(folder) as scratch:
        lines = ["\t".join(columns), *("\t".join(map(_one_field, row)) for row in rows)]
        (scratch / TSV).write_text("\n".join(lines) + "\n", encoding="utf-8")
        objects = (
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows
        )
        (scratch / LINES).write_text("".join(f"{line}\n" for line in objects), encoding="utf-8")
        (scratch / SCORES).write_text(scores, encoding="utf-8")
    write_whole(folder.parent / SCORES, scores)


def _one_field(text: str) -> str:
    # A tab separates and a line ends, here as in a manifest; the JSON lines keep the text as it is.
    return " ".join(text.split("\n")).replace("\t", " ").replace("\r", " ")
