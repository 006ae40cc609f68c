"""Make what training needs from the experiment file: dataset, processor, model."""

import json
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from mmrun.config.schema import Experiment, Split
from mmrun.data.manifest import Row, raise_all, read_manifest
from mmrun.data.pipeline import InputSlot, Pipeline, resolve_pipeline
from mmrun.data.rows import Reading, UsedRows, measured_rows
from mmrun.errors import ConfigError, DataError, UsageError
from mmrun.files import folder_whole, write_whole
from mmrun.progress import hide_library_bars
from mmrun.workflows.actors import (
    ACTORS_FILE,
    FORMAT,
    MARK,
    ROWS,
    STEPS,
    STREAMS,
    UNREAD,
    Actors,
    Step,
    fingerprints,
    is_current,
    made_from,
    manifest_paths,
)

if TYPE_CHECKING:
    from mmrun.data.processor import MultimodalProcessor, Stream

logger = logging.getLogger(__name__)


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
    again = rebuild_dataset or experiment.setup.check_files
    chosen = frozenset(step for step in STEPS if getattr(experiment.setup, f"do_{step}"))
    if chosen and again:  # both are about the data set, whatever else was named
        chosen |= {"dataset"}
    actors = run_setup(
        experiment,
        folder=place / "setup",
        steps=chosen or frozenset(STEPS),
        rebuild_dataset=again,
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
    reader: "MultimodalProcessor | None" = None,
) -> Actors:
    """Make those of ``steps`` that ``folder`` lacks or has from something else.

    ``reader`` is the processor of the checkpoint that the data set is for: files that the settings
    name lie with it, wherever the settings say.

    Nothing is written before everything was made, so a mistake in the file or in the data leaves
    the folder as it was.
    """
    actors = Actors.of(folder)
    wanted = fingerprints(experiment)
    todo = {
        step
        for step in steps
        if not is_current(actors, step, wanted=wanted[step], data=experiment.data)
        or (step == "dataset" and rebuild_dataset)
    }
    for step in STEPS:
        if step in steps and step not in todo:
            logger.info("%s: up to date in %s", step, actors.place(step))
    if todo:
        plan = _Plan.of(experiment, reader=reader)
        for made in _make(plan, actors=actors, todo=todo, wanted=wanted):
            _write(made, actors=actors, origin=plan.origin(made.step, wanted[made.step]))
    if all(actors.place(step).is_dir() for step in STEPS):
        _write_actors(actors)
    return actors


def _make(
    plan: "_Plan", *, actors: Actors, todo: Collection[Step], wanted: Mapping[Step, str]
) -> list[Made]:
    hide_library_bars()
    existing = partial(_existing_processor, actors.processor, wanted=wanted["processor"])
    manifests = _manifests(plan) if {"dataset", "processor"} & set(todo) else {}
    made = []
    processor = None
    rows: Mapping[Split, UsedRows] = {}
    if "processor" in todo:
        processor = _processor(plan, manifests=manifests)
        what = f"{', '.join(plan.pipeline.modalities)}: {len(processor.tokenizer)} tokens"
        made.append(Made(step="processor", save=processor.save_pretrained, what=what))
    if "dataset" in todo:
        reader = processor or plan.reader
        if reader is None and plan.reads_tokens:
            reader = existing()
        rows = _used_rows(plan, manifests=manifests, processor=reader)
        made.insert(0, _make_dataset(rows, plan.streams))
    if "model" in todo:
        processor = processor or existing()
        model = _make_model(plan, processor=processor)
        _require_room(plan, model, rows=rows, processor=processor)
        made.append(_made_of(model))
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The experiment, and what its processor section means."""

    experiment: Experiment
    pipeline: Pipeline
    streams: "Sequence[Stream]"
    reader: "MultimodalProcessor | None" = None
    """The processor of the checkpoint that is gone on from."""

    @classmethod
    def of(cls, experiment: Experiment, *, reader: "MultimodalProcessor | None") -> "_Plan":
        """Refuse an unknown modality or a wrong setting before anything is read."""
        from mmrun.data.processor import streams_of

        pipeline = resolve_pipeline(experiment.processor, data=experiment.data)
        if reader is None:
            streams = streams_of(pipeline, model=experiment.model)
            return cls(experiment=experiment, pipeline=pipeline, streams=streams)
        names = [stream.name for stream in reader.inputs]
        ordered = replace(pipeline, inputs=_in_order(pipeline.inputs, names))
        return cls(experiment=experiment, pipeline=ordered, streams=reader.inputs, reader=reader)

    def origin(self, step: Step, wanted: str) -> str:
        """Return what an actor is marked with: ``wanted``, if the experiment says how it was read.

        A data set that was read as an older checkpoint reads is none of what the experiment
        describes now, and is made again for that.
        """
        if step != "dataset" or self.reader is None:
            return wanted
        from mmrun.data.processor import stream_of

        said = [stream_of(slot, model=self.experiment.model) for slot in self.pipeline.inputs]
        read = [replace(stream, files={}) for stream in self.streams]
        return wanted if said == read else f"{wanted} as a checkpoint reads"

    @property
    def reads_tokens(self) -> bool:
        """Whether it takes a tokenizer to tell how long a row is."""
        limited = self.experiment.data.max_length is not None
        return limited or any(stream.tokens for stream in self.streams)


def _in_order(slots: Sequence[InputSlot], names: Sequence[str]) -> tuple[InputSlot, ...]:
    """Return the slots in the order of the streams that a checkpoint has."""
    found = {slot.name: slot for slot in slots}
    if found.keys() != set(names):
        raise ConfigError(
            f"processor.slots: has the inputs {', '.join(found)}; the checkpoint has "
            f"{', '.join(names)}",
            hint="name the inputs as they were when the training began",
        )
    return tuple(found[name] for name in names)


def _used_rows(
    plan: _Plan,
    *,
    manifests: Mapping[Split, list[Row]],
    processor: "MultimodalProcessor | None",
) -> Mapping[Split, UsedRows]:
    data = plan.experiment.data
    tokenizer = processor.tokenizer if processor is not None else None
    # What is kept in memory would be gone with this command.
    cache = data if data.cache == "disk" else None
    return {
        split: measured_rows(
            found,
            data=data,
            split=split,
            reading=Reading(
                manifest=manifest_paths(plan.experiment)[split],
                columns=plan.pipeline.columns,
                modalities=[stream.build(tokenizer, cache=cache) for stream in plan.streams],
            ),
            tokens=partial(_token_count, tokenizer),
            whole=plan.experiment.setup.check_files,
        )
        for split, found in manifests.items()
    }


def _make_dataset(used: Mapping[Split, UsedRows], streams: "Sequence[Stream]") -> Made:
    from mmrun.data.dataset import write_dataset

    rows = {split: found.rows for split, found in used.items()}
    counts = ", ".join(f"{len(found)} {split}" for split, found in rows.items())
    return Made(
        step="dataset",
        save=partial(write_dataset, rows),
        what=f"{counts} rows",
        facts={
            ROWS: {split: len(found) for split, found in rows.items()},
            STREAMS: [stream.name for stream in streams],
            UNREAD: sum(found.unread for found in used.values()),
        },
    )


def _token_count(tokenizer: Any, row: Row) -> int:
    """Return how many tokens the decoder is to write for a row, its prompt and end included."""
    texts = filter(None, (row.decoder_prompt, row.output))
    return 1 + sum(_tokens_of(tokenizer, text) for text in texts)


def _tokens_of(tokenizer: Any, text: str) -> int:
    from mmrun.data.tokenizer import ids_to_write

    return len(ids_to_write(tokenizer, [text])[0])


def _processor(plan: _Plan, *, manifests: Mapping[Split, list[Row]]) -> "MultimodalProcessor":
    from mmrun.data.processor import build_processor

    pipeline = plan.pipeline
    if pipeline.tokenizer_path is None and "train" not in manifests:
        raise ConfigError(
            "processor.tokenizer_path: is not given, and there is no train split to learn from",
            hint="name a tokenizer, or data.train_metadata_file",
        )
    texts = _texts(manifests.get("train", []), streams=plan.streams)
    return build_processor(pipeline, model=plan.experiment.model, texts=texts)


def _texts(rows: Iterable[Row], *, streams: "Sequence[Stream]") -> Iterator[str]:
    """Yield what the tokenizer is to write, and to read where it reads a signal."""
    read = [place for place, stream in enumerate(streams) if stream.tokens]
    for row in rows:
        yield from filter(None, (row.encoder_prompt, row.decoder_prompt, row.output))
        yield from (row.signals[place].text for place in read)


def _existing_processor(folder: Path, *, wanted: str) -> "MultimodalProcessor":
    """Return the processor that is there, if it is the one that the experiment asks for."""
    from mmrun.data.processor import load_processor

    if not folder.is_dir():
        raise UsageError(
            f"this needs a processor, and there is none in {folder}",
            hint="add --do_processor, or name no actor to make all three",
        )
    if made_from(folder) != wanted:
        raise UsageError(
            f"the processor in {folder} was made from other settings or data",
            hint="add --do_processor, or name no actor to make all that changed",
        )
    return load_processor(folder)


def _make_model(plan: _Plan, *, processor: "MultimodalProcessor") -> Any:
    from mmrun.models.build import build_model
    from mmrun.tasks.translation import inputs_of

    return build_model(
        plan.experiment.model,
        tokenizer=processor.tokenizer,
        new_tokens=processor.new_tokens,
        seed=plan.experiment.setup.seed,
        inputs=inputs_of(processor),
    )


def _require_room(
    plan: _Plan,
    model: Any,
    *,
    rows: Mapping[Split, UsedRows],
    processor: "MultimodalProcessor",
) -> None:
    """Refuse rows that are longer than the backbone can read or write."""
    from mmrun.models.room import rows_without_room

    problems = [
        problem
        for split, found in rows.items()
        for problem in rows_without_room(
            found.rows,
            room=model.room,
            tokens=partial(_tokens_of, processor.tokenizer),
            manifest=manifest_paths(plan.experiment)[split],
        )
    ]
    raise_all(problems)


def _made_of(model: Any) -> Made:
    sizes = [(part.numel(), part.requires_grad) for part in model.parameters()]
    total, trained = sum(size for size, _ in sizes), sum(size for size, grad in sizes if grad)
    what = f"{total:,} parameters" + (f", {trained:,} of them trained" if trained < total else "")
    return Made(step="model", save=model.save_pretrained, what=what)


def _manifests(plan: _Plan) -> dict[Split, list[Row]]:
    """Read the manifest of every split that has one; the problems of all are said at once."""
    found: dict[Split, list[Row]] = {}
    problems: list[DataError] = []
    for split, path in manifest_paths(plan.experiment).items():
        try:
            found[split] = read_manifest(path, split=split, columns=plan.pipeline.columns)
        except DataError as error:
            problems.append(error)
    if problems:
        first, *others = problems
        more = [line for error in others for line in (str(error), *error.more)]
        raise DataError(str(first), hint=first.hint, more=(*first.more, *more))
    return found


# Writing


def _write(made: Made, *, actors: Actors, origin: str) -> None:
    place = actors.place(made.step)
    with folder_whole(place) as scratch:
        made.save(scratch)
        mark = {"format": FORMAT, "step": made.step, "made_from": origin, **made.facts}
        (scratch / MARK).write_text(json.dumps(mark), encoding="utf-8")
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
