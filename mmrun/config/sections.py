"""Each section of a document is checked and made into its typed form."""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from mmrun.config import schema
from mmrun.config.document import Document, Key
from mmrun.config.report import Report
from mmrun.config.successors import known_elsewhere
from mmrun.config.training_fields import generation_names, training_fields
from mmrun.config.values import admits_none, coerce, nearest, prepared, split

SECTIONS: Mapping[str, type[schema.Section]] = {
    "model": schema.ModelSection,
    "data": schema.DataSection,
    "processor": schema.ProcessorSection,
    "setup": schema.SetupSection,
    "training": schema.TrainingSection,
    "generation": schema.GenerationSection,
    "tracking": schema.TrackingSection,
}
TASKS: Mapping[str, str] = {"translation": "translation", "seq2seq": "translation"}
"""Every way to write a task, and its name."""

_OPEN: Mapping[str, str] = {"training": "arguments", "generation": "options"}
"""Sections that also take the names of a transformers class, and the field that holds those."""

Typed = TypeVar("Typed", bound=schema.Section)


@cache
def known_names(section: str) -> frozenset[str]:
    """Return the keys that ``section`` takes."""
    own = frozenset(SECTIONS[section].model_fields) - {_OPEN.get(section, "")}
    if section == "training":
        return own | (frozenset(training_fields()) - {"resume_from_checkpoint"})
    return own | generation_names() if section == "generation" else own


def validated(document: Document, *, report: Report) -> schema.Experiment:
    """Return the experiment; where there are problems, they are in the report."""
    for name in document.values:
        if name not in SECTIONS and name != "task":
            place = document.place((name,))
            report.unknown((name,), known=(*SECTIONS, "task"), place=place)
    made = {name: _section(document, name, model, report) for name, model in SECTIONS.items()}
    return schema.Experiment.model_validate({**made, "task": _task(document, report=report)})


def _task(document: Document, *, report: Report) -> str:
    written = document.values.get("task")
    task = "translation" if written is None else TASKS.get(str(written))
    if task is None:
        text = f"unknown task {written!r}; known are {', '.join(TASKS)}"
        close = nearest(str(written), tuple(TASKS)) or "translation"
        place = document.place(("task",))
        report.problem(("task",), text, place=place, hint=f"write {close!r}")
    return task or "translation"


def _section(document: Document, name: str, model: type[Typed], report: Report) -> Typed:
    written = document.values.get(name)
    if written is None:
        return model()
    if not isinstance(written, dict):
        text = f"must hold keys, not {written!r}"
        report.problem((name,), text, place=document.place((name,)), hint="write 'key: value'")
        return model()
    known = known_names(name)
    for key in [key for key in written if key not in known]:
        names = known | known_elsewhere(name)
        report.unknown((name, key), known=names, place=document.place((name, key)))
    own = {key: written[key] for key in written if key in known & model.model_fields.keys()}
    rest = {key: written[key] for key in written if key in known - model.model_fields.keys()}
    if name == "training":
        own = _of_mmrun(own, document=document, report=report)
        rest = _arguments(rest, document=document, report=report)
    if name in _OPEN:
        own[_OPEN[name]] = rest
    return _made(model, name, own, document=document, report=report)


def _of_mmrun(own: dict[str, Any], *, document: Document, report: Report) -> dict[str, Any]:
    """Read the lists of names in the training section: ``a, b`` or ``[a, b]``."""
    read = dict(own)
    for name in ("metric_name", "report_to"):
        value = own.get(name)
        if isinstance(value, str):
            read[name] = split(value.strip("[]"))
    if isinstance(read.get("report_to"), list):
        read["report_to"] = [name for name in read["report_to"] if name not in ("mlflow", "none")]
        if "all" in read["report_to"]:
            key = ("training", "report_to")
            hint = "name the trackers, as in [wandb]; MLflow is always there"
            report.problem(key, "'all' is not a tracker", place=document.place(key), hint=hint)
    return read


def _arguments(written: Mapping[str, Any], *, document: Document, report: Report) -> dict[str, Any]:
    """Return the training arguments that are not mmrun's own, typed."""
    typed: dict[str, Any] = {}
    for name, value in written.items():
        field, key = training_fields()[name], ("training", name)
        if value is None and not field.optional:
            continue
        try:
            typed[name] = coerce(field, value)
        except ValueError as error:
            hint = f"mmrun train --help-training {name}"
            report.problem(key, str(error), place=document.place(key), hint=hint)
    if typed.get("save_only_model"):
        key = ("training", "save_only_model")
        text = "a checkpoint without the optimizer's state cannot be resumed"
        report.problem(key, text, place=document.place(key), hint="leave save_only_model out")
    return typed


def _made(
    model: type[Typed], name: str, values: Mapping[str, Any], *, document: Document, report: Report
) -> Typed:
    kinds = {key: field.annotation for key, field in model.model_fields.items()}
    given = {
        key: prepared(kinds[key], value)
        for key, value in values.items()
        if value is not None or admits_none(kinds[key])
    }
    try:
        return model.model_validate(given)
    except ValidationError as error:
        for problem in error.errors():
            key: Key = (name, *map(str, problem["loc"]))
            text = problem["msg"].partition(", unable")[0].replace("Input should be", "must be")
            text = f"{text[:1].lower()}{text[1:]}, not {problem['input']!r}"
            report.problem(key, text, place=document.place(key), hint=f"correct {'.'.join(key)}")
        return model()
