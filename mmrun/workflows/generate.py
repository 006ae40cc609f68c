"""Translate a split with a checkpoint, score it, and record both as a child of the run."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmrun.checkpoints.archive import Found
from mmrun.checkpoints.reference import Reference
from mmrun.config.loading import Override, plain
from mmrun.config.schema import Experiment, Split
from mmrun.errors import CheckpointError, ConfigError, TrackingError
from mmrun.files import folder_whole, write_whole
from mmrun.progress import hide_library_bars, progress
from mmrun.provenance.data import data_version
from mmrun.tracking import launcher
from mmrun.tracking.journal import Clock
from mmrun.tracking.store import Point, Run
from mmrun.workflows.beginning import LATEST, archive
from mmrun.workflows.past import read_past
from mmrun.workflows.place import Place, find_place
from mmrun.workflows.recipe import setup_folder
from mmrun.workflows.setup import Actors, missing_steps, run_setup

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


def generate(request: GenerateRequest) -> str:
    """Translate the split and return what is to be said about it."""
    place = find_place(request)
    found, checkpoint = _find(place)
    actors = _actors(place, request.setup_path, own=found.manifest is not None)
    with _recorded(place, found, request.split) as record:
        translated = _translate(place.experiment, checkpoint, actors, split=request.split)
        folder = place.output_dir / "generate" / found.name.replace("/", "-")
        _write(translated, folder)
        if record is not None:
            _log(place, record, translated, folder=folder, step=found.step)
    scores = ", ".join(f"{name} {value:.4g}" for name, value in translated.scores.items())
    return f"{found.name}: {scores or 'no metric is named'}; predictions in {folder / TSV}"


def _find(place: Place) -> tuple[Found, Path]:
    if place.run is None and (place.reference is None or place.reference.path is None):
        raise CheckpointError(
            f"no trained run belongs to {place.output_dir}",
            hint="run 'mmrun train' first, or name a checkpoint with --model_name_or_path",
        )
    checkpoints = archive(place)
    lineage = read_past(place.store, place.run, place.run_file).lineage if place.run else ()
    if place.reference is not None:
        return checkpoints.obtain(place.reference, lineage=lineage)
    if str(place.experiment.training.arguments.get("eval_strategy", "no")) != "no":
        try:
            return checkpoints.obtain(BEST, lineage=lineage)
        except CheckpointError as error:
            logger.info("%s; the latest is used", error)
    return checkpoints.obtain(LATEST, lineage=lineage)


def _actors(place: Place, setup_path: Path | None, *, own: bool) -> Actors:
    """Return the actors; a checkpoint of mmrun's has processor and model in it."""
    folder = setup_folder(place, setup_path)
    missing = missing_steps(place.experiment, folder)
    if own:
        missing &= {"dataset"}
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
    if split not in datasets:
        raise ConfigError(
            f"data.{split}_metadata_file: is not given", hint=f"name the TSV of the {split} split"
        )
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
    from mmrun.tasks.translation import collator, generation_arguments

    given = experiment.training.arguments
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    model: Any = load_model(checkpoint)
    model.to(device).eval()
    loader = DataLoader(
        dataset,
        batch_size=int(given.get("per_device_eval_batch_size", 8)),
        collate_fn=collator(processor),
        num_workers=int(given.get("dataloader_num_workers", 0)),
    )
    options = generation_arguments(experiment.generation)
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


# The record


@contextmanager
def _recorded(place: Place, found: Found, split: Split) -> Iterator[Run | None]:
    """Open the child run of this checkpoint and configuration; say how it ended."""
    run = _record(place, found, split)
    place.store.set_status(run.run_id, "RUNNING")
    try:
        yield run
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        with suppress(TrackingError):  # what went wrong first is what to say
            place.store.set_status(run.run_id, "KILLED" if stopped else "FAILED")
        raise
    place.store.set_status(run.run_id, "FINISHED")


def _record(place: Place, found: Found, split: Split) -> Run:
    """Return the run that records this: a launcher's own, an earlier one like it, or a new one."""
    tags = {
        launcher.ROLE_TAG: "generation",
        "mmrun.generation": _identity(place.experiment, found, split),
        "mmrun.checkpoint": _name(found),
        "mmrun.data": data_version(place.experiment),
        "mlflow.source.name": "mmrun generate",
    }
    parent = place.run
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.run_id
    launched = place.launched
    if launched is not None and launched.tags.get(launcher.ROLE_TAG) != launcher.ROLE:
        place.store.set_tags(launched.run_id, tags)
        return launched
    identity = {name: tags[name] for name in ("mmrun.generation", launcher.ROLE_TAG)}
    if parent is not None:
        same = place.store.find(experiment_id=parent.experiment_id, tags=identity)
        if same:
            return same[0]
    run = place.store.create(
        experiment=place.experiment.tracking.experiment,
        name=f"{split} of {found.name}",
        tags=tags,
    )
    options = plain(place.experiment).get("generation", {})
    params = {f"generation.{name}": str(value) for name, value in options.items()}
    place.store.log_params(run.run_id, {**params, "checkpoint": _name(found), "split": split})
    return run


def _name(found: Found) -> str:
    manifest = found.manifest
    if manifest is None:
        return str(found.path)
    return f"{manifest.run_id}@{manifest.step}.a{manifest.attempt}"


def _identity(experiment: Experiment, found: Found, split: Split) -> str:
    content = plain(experiment)
    deciding = [
        _name(found),
        split,
        content.get("generation", {}),
        experiment.training.metric_name,
        data_version(experiment),
    ]
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:32]


def _log(place: Place, run: Run, translated: Translated, *, folder: Path, step: int) -> None:
    now_ms = Clock().now_ms()
    points = [
        Point(key=name, step=step, timestamp_ms=now_ms, value=value)
        for name, value in translated.scores.items()
        if run.metrics.get(name) != value  # a repetition adds no second point
    ]
    if points:
        place.store.log_points(run.run_id, points)
    for name in (TSV, LINES, SCORES):
        place.store.artifacts(run.run_id).upload(folder / name, to="")
    place.store.log_table(run.run_id, translated.columns, path="predictions.json")
