"""Where the actors of an experiment lie, and what each of them was made from."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from mmrun.config.schema import SPLITS, DataSection, Experiment, Split
from mmrun.data.enclosed import files_named_in
from mmrun.data.pipeline import InputSlot, Pipeline, resolve_pipeline
from mmrun.errors import ConfigError, DataError, UsageError
from mmrun.files import sha256
from mmrun.provenance.data import files_named_by, signal_columns

logger = logging.getLogger(__name__)

Step = Literal["dataset", "processor", "model"]
STEPS: tuple[Step, ...] = ("dataset", "processor", "model")
ACTORS_FILE = "actors_paths.yaml"
FORMAT = 1

MARK = "mmrun.json"
"""In the folder of an actor: what it was made from."""
ROWS = "rows"
STREAMS = "streams"
UNREAD = "unread"
_PROCESSOR_FILE = "processor_config.json"
_NAMES = ("name", "modality")
_BLOCKS, _BLOCK = 64, 4096
_WEIGHTS = (".safetensors", ".bin", ".pt", ".ckpt", ".msgpack", ".h5")


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


def actors_folder(
    experiment: Experiment, *, output_dir: Path | None, setup_path: Path | None
) -> Path | None:
    """Return where the actors are, or are to be made; None where no folder is named at all."""
    if setup_path is not None:
        return setup_path
    others = (experiment.setup.output_dir, experiment.training.output_dir)
    own = output_dir or experiment.training.output_dir
    candidates = [folder / "setup" for folder in (own, *others) if folder is not None]
    there = (folder for folder in candidates if folder.is_dir())
    return next(there, next(iter(candidates), None))


def with_modality(
    experiment: Experiment, *, output_dir: Path | None, setup_path: Path | None
) -> Experiment:
    """Say the modality that only `mmrun setup --modality` was told, as the processor knows it."""
    said = experiment.data.dataset_type or experiment.processor.pipeline
    folder = actors_folder(experiment, output_dir=output_dir, setup_path=setup_path)
    if said or experiment.processor.slots is not None or folder is None:
        return experiment
    streams = _streams_of(Actors.of(folder).processor)
    if len(streams) != 1:
        return experiment
    modality = streams[0]["modality"]
    logger.info("data.dataset_type: %s2text, as in %s", modality, folder)
    data = experiment.data.model_copy(update={"dataset_type": f"{modality}2text"})
    return experiment.model_copy(update={"data": data})


def stream_names(processor: Path) -> list[str]:
    """Return the names of the inputs of a saved processor, without loading its tokenizer."""
    return [stream["name"] for stream in _streams_of(processor)]


def _streams_of(processor: Path) -> Sequence[Mapping[str, str]]:
    try:
        text = (processor / _PROCESSOR_FILE).read_text(encoding="utf-8")
        return [{key: str(one[key]) for key in _NAMES} for one in json.loads(text)["streams"]]
    except (OSError, ValueError, KeyError, TypeError):  # whoever needs them will say so
        return ()


def missing_steps(experiment: Experiment, folder: Path) -> frozenset[Step]:
    """Return the actors that ``folder`` lacks, or has from another file or other manifests."""
    actors = Actors.of(folder)
    wanted = fingerprints(experiment)
    return frozenset(
        step
        for step in STEPS
        if not is_current(actors, step, wanted=wanted[step], data=experiment.data)
    )


def is_current(actors: Actors, step: Step, *, wanted: str, data: DataSection) -> bool:
    """Tell whether an actor is there and made from what is ``wanted``.

    A data set that lacks rows, because they could not be read, is none where that is an error.
    """
    mark = _mark(actors.place(step))
    if step == "dataset" and data.on_bad_sample == "error" and mark.get(UNREAD):
        return False
    return mark.get("made_from") == wanted


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


def manifest_paths(experiment: Experiment) -> dict[Split, Path]:
    """Return the manifests that are given; one at least must be."""
    paths = {split: path for split in SPLITS if (path := experiment.data.manifest(split))}
    if not paths:
        raise ConfigError(
            "data.train_metadata_file: no manifest is given",
            hint="name the TSV files in the data section of the experiment file",
        )
    return paths


# What an actor was made from


def fingerprints(experiment: Experiment) -> dict[Step, str]:
    """Return a digest of what each actor is made from."""
    pipeline = resolve_pipeline(experiment.processor, data=experiment.data)
    model, data = experiment.model, experiment.data
    signals = [_signal(slot, experiment=experiment) for slot in pipeline.inputs]
    manifests = {split: _digest(path) for split, path in manifest_paths(experiment).items()}
    learnt = [manifests, pipeline.columns]
    tokens = [
        _folder_digest(pipeline.tokenizer_path) if pipeline.tokenizer_path else learnt,
        pipeline.new_vocabulary,
        _digest(Path(pipeline.new_vocabulary or "").expanduser()),
    ]
    limits = [data.max_frames, data.min_frames, data.max_length]
    counted = tokens if _counts_tokens(pipeline, data=data) else None
    streams = [(slot.name, slot.mask, slot.modality) for slot in pipeline.inputs]
    pretrained = [model.stream(name).pretrained_feature_extractor for name, *_ in streams]
    backbones = [
        _folder_digest(name)
        for name in (model.pretrained_backbone, *pretrained)
        if name is not None
    ]
    return {
        "dataset": _canonical_digest(
            [manifests, _sizes(experiment), limits, counted, signals, pipeline.columns]
        ),
        "processor": _canonical_digest([tokens, signals, pipeline.texts]),
        "model": _canonical_digest(
            [model.model_dump(mode="json"), streams, backbones, tokens, experiment.setup.seed]
        ),
    }


def _sizes(experiment: Experiment) -> Mapping[Split, str]:
    """Return a digest of the sizes of the files that each manifest names.

    A file that was repaired or made anew is measured again then. Times would differ from machine to
    machine, and make what DVC keeps look changed; contents would have to be read.
    """
    columns = signal_columns(experiment)
    found: dict[Split, str] = {}
    for split, manifest in manifest_paths(experiment).items():
        try:
            named = files_named_by(manifest, columns=columns)
        except DataError:  # what reads the manifest says what is wrong with it
            continue
        sizes = sorted((name, path.stat().st_size) for name, path in named.items())
        found[split] = _canonical_digest(sizes)
    return found


def _counts_tokens(pipeline: Pipeline, *, data: DataSection) -> bool:
    """Whether which rows there are depends on the tokenizer."""
    return data.max_length is not None or "text" in pipeline.modalities


def _signal(slot: InputSlot, *, experiment: Experiment) -> list[Any]:
    """Return what decides the numbers that one signal becomes."""
    section = experiment.model.stream(slot.name)
    files = {
        key: _folder_digest(str(path)) if path.is_dir() else _digest(path)
        for key, path in files_named_in(slot.settings).items()
    }
    return [
        slot.name,
        slot.mask,
        slot.modality,
        dict(slot.settings),
        files,
        section.feat_dim,
        section.feature_extractor_type is not None,
    ]


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
    """Return what tells one pretrained folder from another; of weights some blocks are read."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    return {
        path.name: _sampled(path) if path.suffix in _WEIGHTS else _digest(path)
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


def _sampled(path: Path) -> str:
    """Return a digest of the size of large weights and of blocks from all over them.

    Training changes every weight, so that no whole file need be read to see it.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for block in range(_BLOCKS):
            file.seek(max(0, size - _BLOCK) * block // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def leaves_rows_out(data: DataSection) -> bool:
    """Tell whether the data set may have fewer rows than its manifest."""
    limits = (data.max_frames, data.min_frames, data.max_length)
    return data.on_bad_sample == "skip" or any(limit is not None for limit in limits)


def built_streams(folder: Path) -> list[str]:
    """Return the names of the inputs of the data set in ``folder``, in their order."""
    return list(_mark(Actors.of(folder).dataset).get(STREAMS, ()))


def built_rows(experiment: Experiment, folder: Path) -> Mapping[Split, int] | None:
    """Return how many rows each split of the data set has; None where it is to be built first."""
    if "dataset" in missing_steps(experiment, folder):
        return None
    return _mark(Actors.of(folder).dataset).get(ROWS)


def made_from(folder: Path) -> str | None:
    """Return the digest that the actor in ``folder`` carries; None where there is no actor."""
    return _mark(folder).get("made_from")


def _mark(folder: Path) -> Mapping[str, Any]:
    """Return what is written down of the actor in ``folder``; nothing where there is none."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return mark if isinstance(mark, dict) and mark.get("format") == FORMAT else {}
