"""What was written, in the file or as an option, under the names that mmrun knows."""

from typing import Any

from mmrun.config.document import Document, Key, Place, parse_value
from mmrun.config.report import Report
from mmrun.config.schema import Experiment, GenerationSection
from mmrun.config.successors import Successor, refused, successor, unwanted, without_effect
from mmrun.config.training_fields import training_fields

_ACTORS = frozenset({"dataset_dir", "model_name_or_path", "processor_name_or_path"})
_INSIDE_A_VALUE = 3
"""From this many parts on a dotted key names something that no annotation describes."""


def translate(document: Document, *, report: Report) -> None:
    """Rename or leave out what has another name, or no meaning, here."""
    for section in Experiment.model_fields:
        written = document.values.get(section)
        if not isinstance(written, dict):
            continue
        for name, value in list(written.items()):
            key, place = (section, name), document.place((section, name))
            found = _translated(key, value, place=place, report=report)
            if found == (key, value):
                continue
            del written[name]
            if found is not None and not _is_written(document, found[0]):
                document.put(found[0], found[1], place=place)


def _is_written(document: Document, key: Key) -> bool:
    holder: Any = document.values
    for name in key[:-1]:
        holder = holder.get(name)
        if not isinstance(holder, dict):  # what is no mapping is for validation to refuse
            return holder is not None
    return key[-1] in holder


def apply_override(
    document: Document, key: str, text: str, *, place: Place, report: Report
) -> None:
    """Set the value of a dotted key from the command line."""
    path = tuple(key.split("."))
    free = len(path) >= _INSIDE_A_VALUE or _is_option_of_generate(path)
    found = _translated(path, parse_value(text) if free else text, place=place, report=report)
    if found is None:
        return
    try:
        document.put(found[0], found[1], place=place)
    except TypeError as error:
        report.problem(path, str(error), place=place, hint=f"give {path[0]}.{path[1]} as a whole")


def _is_option_of_generate(path: Key) -> bool:
    return path[0] == "generation" and path[-1] not in GenerationSection.model_fields


def _translated(key: Key, value: Any, *, place: Place, report: Report) -> tuple[Key, Any] | None:
    """Return the key and value that mean here what was written, or ``None`` for nothing."""
    section, name, *_ = (*key, "")
    installed = training_fields() if section == "training" else {}
    reason = refused(section, name, value)
    if reason is not None:
        report.problem(key, reason, place=place, hint=f"remove {name!r}")
        return None
    if unwanted(section, name):
        return None
    why = without_effect(section, name, installed=installed)
    if why is not None and name in _ACTORS and place.option is not None:
        report.problem(key, why, place=place, hint="name the folder with --setup_path")
        return None
    if why is not None:
        report.note(key, f"has no effect: {why}", place=place)
        return None
    heir = successor(section, name, installed=installed)
    return (key, value) if heir is None else _inherited(key, value, heir, place, report)


def _inherited(
    key: Key, value: Any, heir: Successor, place: Place, report: Report
) -> tuple[Key, Any] | None:
    new = (key[0], *heir.name.split("."))
    if heir.when_true is not None:
        if str(value).lower() != "true":
            return None
        value = heir.when_true
    if heir.ratio and str(value).strip() in ("1", "1.0"):
        text = f"all of training would be warm-up, and {heir.name}: 1 means one step"
        report.problem(key, text, place=place, hint=f"write training.{heir.name}")
        return None
    report.note(key, f"is read as {'.'.join(new)}: {value}", place=place)
    return new, value
