"""Make what training needs from the experiment file: dataset, processor, model."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ruamel.yaml import YAML

from mmrun.config.schema import SPLITS, Experiment, Split
from mmrun.data.manifest import Row, read_manifest
from mmrun.data.pipeline import Pipeline, resolve_pipeline
from mmrun.errors import ConfigError, DataError, UsageError
from mmrun.files import folder_whole, sha256, write_whole
from mmrun.progress import hide_library_bars

if TYPE_CHECKING:
    from mmrun.data.processor import MultimodalProcessor

logger = logging.getLogger(__name__)

Step = Literal["dataset", "processor", "model"]
STEPS: tuple[Step, ...] = ("dataset", "processor", "model")
ACTORS_FILE = "actors_paths.yaml"
FORMAT = 1

_MARK = "mmrun.json"
_ROWS = "rows"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".ckpt", ".msgpack", ".h5")
_TEXTS = ("encoder_prompt", "decoder_prompt", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actors:
    """Where the actors of one experiment lie."""

    folder: Path
    dataset: Path
    processor: Path
    model: Path

    @classmethod
    def of(cls, folder: Path) -> "Actors":
        """Return the places that `mmrun setup` gives the actors in ``folder``."""
        return cls(
            folder=folder,
            dataset=folder / "dataset",
            processor=folder / "processor",
            model=folder / "model",
        )

    def place(self, step: Step) -> Path:
        """Return the folder of one actor."""
        path: Path = getattr(self, step)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An actor in memory: how it is written, and what is to be said of it."""

    step: Step
    save: Callable[[Path], object]
    what: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is written down of it, to be read without opening it."""


def setup_command(
    experiment: Experiment, *, output_dir: Path | None, rebuild_dataset: bool, config_path: Path
) -> Actors:
    """Do what `mmrun setup` was asked for, and say what there is now."""
    place = setup_place(experiment, output_dir=output_dir)
    if experiment.setup.update_config:
        _refuse_under_dvc()
    chosen = frozenset(step for step in STEPS if getattr(experiment.setup, f"do_{step}"))
    actors = run_setup(
        experiment,
        folder=place / "setup",
        steps=chosen or frozenset(STEPS),
        rebuild_dataset=rebuild_dataset,
    )
    if experiment.setup.update_config:
        _note_place(config_path, place=place)
        logger.info("setup.output_dir in %s is now %s", config_path, place)
    return actors


def setup_place(experiment: Experiment, *, output_dir: Path | None) -> Path:
    """Return the folder under which `setup` lies: the option's, or what the file says."""
    place = output_dir or experiment.setup.output_dir or experiment.training.output_dir
    if place is None:
        raise UsageError(
            "there is no folder for what setup makes",
            hint="give --output_dir, or training.output_dir in the experiment file",
        )
    return place


def run_setup(
    experiment: Experiment,
    *,
    folder: Path,
    steps: Collection[Step] = STEPS,
    rebuild_dataset: bool = False,
) -> Actors:
    """Make those of ``steps`` that ``folder`` lacks or has from something else.

    Nothing is written before everything was made, so a mistake in the file or in the data leaves
    the folder as it was.
    """
    actors = Actors.of(folder)
    wanted = _fingerprints(experiment)
    todo = {
        step
        for step in steps
        if _made_from(actors.place(step)) != wanted[step] or (step == "dataset" and rebuild_dataset)
    }
    for step in STEPS:
        if step in steps and step not in todo:
            logger.info("%s: up to date in %s", step, actors.place(step))
    for made in _make(experiment, actors=actors, todo=todo) if todo else ():
        _write(made, actors=actors, made_from=wanted[made.step])
    if all(actors.place(step).is_dir() for step in STEPS):
        _write_actors(actors)
    return actors


def missing_steps(experiment: Experiment, folder: Path) -> frozenset[Step]:
    """Return the actors that ``folder`` lacks, or has from another file or other manifests."""
    actors = Actors.of(folder)
    wanted = _fingerprints(experiment)
    return frozenset(step for step in STEPS if _made_from(actors.place(step)) != wanted[step])


def read_actors(folder: Path) -> Actors:
    """Read `actors_paths.yaml`; its paths are relative to its folder."""
    path = folder / ACTORS_FILE
    try:
        found = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        places = {step: folder / found[step] for step in STEPS}
    except FileNotFoundError as error:
        raise UsageError(
            f"there are no actors in {folder}",
            hint="run 'mmrun setup' with this output folder, or give --setup_path",
        ) from error
    except (KeyError, TypeError, OSError) as error:
        raise UsageError(
            f"{path} does not name dataset, processor and model",
            hint="run 'mmrun setup' again",
        ) from error
    return Actors(folder=folder, **places)


def _make(experiment: Experiment, *, actors: Actors, todo: Collection[Step]) -> list[Made]:
    hide_library_bars()
    pipeline = resolve_pipeline(experiment.processor, data=experiment.data)
    _check_modality(pipeline, experiment=experiment)
    manifests = _manifests(experiment) if {"dataset", "processor"} & set(todo) else {}
    made = []
    if "dataset" in todo:
        made.append(_make_dataset(experiment, pipeline=pipeline, manifests=manifests))
    processor = None
    if "processor" in todo:
        processor = _processor(experiment, pipeline=pipeline, manifests=manifests)
        made.append(
            Made(
                step="processor",
                save=processor.save_pretrained,
                what=f"{pipeline.modality}, {len(processor.tokenizer)} tokens",
            )
        )
    if "model" in todo:
        processor = processor or _existing_processor(actors.processor)
        made.append(_make_model(experiment, processor=processor))
    return made


def _check_modality(pipeline: Pipeline, *, experiment: Experiment) -> None:
    from mmrun.data.processor import build_modality

    build_modality(pipeline, model=experiment.model)


def _make_dataset(
    experiment: Experiment, *, pipeline: Pipeline, manifests: Mapping[Split, list[Row]]
) -> Made:
    from mmrun.data.dataset import checked_rows, write_dataset
    from mmrun.data.processor import build_modality

    modality = build_modality(pipeline, model=experiment.model)
    rows = {
        split: checked_rows(found, data=experiment.data, split=split, modality=modality)
        for split, found in manifests.items()
    }
    counts = ", ".join(f"{len(found)} {split}" for split, found in rows.items())
    return Made(
        step="dataset",
        save=partial(write_dataset, rows),
        what=f"{counts} rows",
        facts={_ROWS: {split: len(found) for split, found in rows.items()}},
    )


def _processor(
    experiment: Experiment, *, pipeline: Pipeline, manifests: Mapping[Split, list[Row]]
) -> "MultimodalProcessor":
    from mmrun.data.processor import build_processor

    if pipeline.tokenizer_path is None and "train" not in manifests:
        raise ConfigError(
            "processor.tokenizer_path: is not given, and there is no train split to learn from",
            hint="name a tokenizer, or data.train_metadata_file",
        )
    return build_processor(
        pipeline, model=experiment.model, texts=_texts(manifests.get("train", []))
    )


def _texts(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        yield from filter(None, (row.encoder_prompt, row.decoder_prompt, row.output))


def _existing_processor(folder: Path) -> "MultimodalProcessor":
    from mmrun.data.processor import load_processor

    if not folder.is_dir():
        raise UsageError(
            f"the model needs a processor, and there is none in {folder}",
            hint="add --do_processor, or leave out --do_model to make all three",
        )
    return load_processor(folder)


def _make_model(experiment: Experiment, *, processor: "MultimodalProcessor") -> Made:
    from mmrun.models.build import build_model

    model = build_model(
        experiment.model,
        tokenizer=processor.tokenizer,
        new_tokens=processor.new_tokens,
        seed=experiment.setup.seed,
    )
    sizes = [(part.numel(), part.requires_grad) for part in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, grad in sizes if grad)
    what = f"{total:,} parameters" + (f", {trained:,} of them trained" if trained < total else "")
    return Made(step="model", save=model.save_pretrained, what=what)


def _manifests(experiment: Experiment) -> dict[Split, list[Row]]:
    """Read the manifest of every split that has one; the problems of all are said at once."""
    found: dict[Split, list[Row]] = {}
    problems: list[DataError] = []
    for split, path in _manifest_paths(experiment).items():
        try:
            found[split] = read_manifest(path, split=split)
        except DataError as error:
            problems.append(error)
    if problems:
        first, *others = problems
        more = [line for error in others for line in (str(error), *error.more)]
        raise DataError(str(first), hint=first.hint, more=(*first.more, *more))
    return found


def _manifest_paths(experiment: Experiment) -> dict[Split, Path]:
    paths = {split: path for split in SPLITS if (path := experiment.data.manifest(split))}
    if not paths:
        raise ConfigError(
            "data.train_metadata_file: no manifest is given",
            hint="name the TSV files in the data section of the experiment file",
        )
    return paths


# What an actor was made from


def _fingerprints(experiment: Experiment) -> dict[Step, str]:
    """Return a digest of what each actor is made from."""
    pipeline = resolve_pipeline(experiment.processor, data=experiment.data)
    model = experiment.model
    signal = [
        pipeline.modality,
        dict(pipeline.settings),
        model.feat_dim,
        model.feature_extractor_type is not None,
    ]
    manifests = {split: _digest(path) for split, path in _manifest_paths(experiment).items()}
    tokens = [
        _folder_digest(pipeline.tokenizer_path) if pipeline.tokenizer_path else manifests,
        pipeline.new_vocabulary,
        _digest(Path(pipeline.new_vocabulary or "").expanduser()),
    ]
    backbones = [
        _folder_digest(name)
        for name in (model.pretrained_backbone, model.pretrained_feature_extractor)
        if name is not None
    ]
    return {
        "dataset": _canonical_digest([manifests, experiment.data.max_frames, signal]),
        "processor": _canonical_digest([tokens, signal]),
        "model": _canonical_digest(
            [model.model_dump(mode="json"), backbones, tokens, experiment.setup.seed]
        ),
    }


def _canonical_digest(made_from: Any) -> str:
    text = json.dumps(made_from, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(path: Path) -> str | None:
    """Return the digest of a file, or None where there is none: what reads it will say so."""
    try:
        return sha256(path)
    except OSError:
        return None


def _folder_digest(name: str) -> Any:
    """Return what tells one pretrained folder from another; weights count by their size only."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    return {
        path.name: path.stat().st_size if path.suffix in _WEIGHTS else _digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def built_rows(experiment: Experiment, folder: Path) -> Mapping[Split, int] | None:
    """Return how many rows each split of the data set has; None where it is to be built first."""
    if "dataset" in missing_steps(experiment, folder):
        return None
    return _mark(Actors.of(folder).dataset).get(_ROWS)


def _made_from(folder: Path) -> str | None:
    """Return the digest that the actor in ``folder`` carries; None where there is no actor."""
    return _mark(folder).get("made_from")


def _mark(folder: Path) -> Mapping[str, Any]:
    """Return what is written down of the actor in ``folder``; nothing where there is none."""
    try:
        mark = json.loads((folder / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) and mark.get("format") == FORMAT else {}


# Writing


def _write(made: Made, *, actors: Actors, made_from: str) -> None:
    place = actors.place(made.step)
    with folder_whole(place) as scratch:
        made.save(scratch)
        mark = {"format": FORMAT, "step": made.step, "made_from": made_from, **made.facts}
        (scratch / _MARK).write_text(json.dumps(mark), encoding="utf-8")
    logger.info("%s: %s, in %s", made.step, made.what, place)


def _write_actors(actors: Actors) -> None:
    lines = [
        f"{step}: {actors.place(step).relative_to(actors.folder).as_posix()}" for step in STEPS
    ]
    write_whole(actors.folder / ACTORS_FILE, "".join(f"{line}\n" for line in lines))


def _refuse_under_dvc() -> None:
    if "DVC_STAGE" in os.environ:
        raise UsageError(
            "--update_config would change the experiment file, which DVC reads as parameters",
            hint="leave it out; 'mmrun train' finds what setup made",
        )


def _note_place(path: Path, *, place: Path) -> None:
    """Write ``setup.output_dir`` into the experiment file; comments and order stay."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    tree = yaml.load(path.read_text(encoding="utf-8"))
    section = tree.get("setup")
    if section is None:
        section = tree["setup"] = {}
    section["output_dir"] = str(place)
    text = StringIO()
    yaml.dump(tree, text)
    write_whole(path, text.getvalue())
