"""From a YAML file and options to a validated experiment, and back to plain values."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrun.config.document import Document, Key, Place, parse_value, read_document
from mmrun.config.interpolation import interpolate
from mmrun.config.masking import masked, remember, without_masks
from mmrun.config.report import Report
from mmrun.config.schema import Experiment
from mmrun.config.sections import validated
from mmrun.config.translation import apply_override, translate

_OF_THE_MACHINE: Sequence[Key] = (
    ("training", "output_dir"),
    ("training", "run_name"),
    ("training", "overwrite_output_dir"),
    ("training", "save_total_limit"),
    ("training", "report_to"),
)
"""Training settings that leave the weights as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A value from the command line for one key: ``training.learning_rate``, ``1e-4``."""

    key: str
    text: str
    source: str
    """How it was given: ``--learning_rate``, or ``--set``."""


def load_experiment(
    path: Path | None,
    *,
    overrides: Sequence[Override] = (),
    base: Mapping[str, Any] | None = None,
) -> Experiment:
    """Read ``path``, or the plain ``base``, apply ``overrides`` and validate the whole.

    Every problem is reported at once: ``ConfigError`` when one of them is in the file,
    ``UsageError`` when all are on the command line. Paths in a file are relative to the current
    folder.
    """
    document = _document(path, base=base)
    remember(document.values)
    for override in overrides:
        leaf = override.key.rpartition(".")[2]
        remember({leaf: [override.text, parse_value(override.text)]})
    report = Report()
    translate(document, report=report)
    for override in overrides:
        place = Place(option=override.source)
        apply_override(document, override.key, override.text, place=place, report=report)
    interpolate(document, report=report)
    remember(document.values)  # with what came from the environment
    experiment = validated(document, report=report)
    report.close()
    return experiment


def _document(path: Path | None, *, base: Mapping[str, Any] | None) -> Document:
    if path is not None:
        return read_document(path)
    return Document(values=without_masks(deepcopy(dict(base or {}))))


def plain(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment in the form of a file: plain values, without what is the default.

    ``load_experiment(None, base=plain(experiment))`` gives it back.
    """
    tree: dict[str, Any] = _jsonable(experiment.model_dump(exclude_defaults=True))
    training = tree.get("training", {})
    training |= training.pop("arguments", {})
    if "metric_name" in training:
        training["metric_name"] = ",".join(training["metric_name"])
    generation = tree.get("generation", {})
    generation |= generation.pop("options", {})
    return {name: section for name, section in tree.items() if section != {}}


def flat(experiment: Experiment) -> dict[str, str]:
    """Return ``section.key`` to canonical text, secrets masked: equal values, equal texts."""
    return flat_tree(plain(experiment))


def flat_tree(tree: Mapping[str, Any]) -> dict[str, str]:
    """Return the same of a plain tree, such as one that was stored with its secrets masked."""
    return dict(_flat(masked(tree), ()))


def fingerprint(experiment: Experiment) -> str:
    """Return a digest of what decides the outcome, the same on every machine."""
    tree = plain(experiment)
    deciding = {name: tree.get(name, {}) for name in ("data", "model", "processor", "training")}
    for section, name in _OF_THE_MACHINE:
        deciding[section].pop(name, None)
    deciding["training"] = masked(deciding["training"])
    deciding |= {"task": experiment.task, "seed": experiment.setup.seed}
    text = json.dumps(_canonical(deciding), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _jsonable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(member) for member in value]
    return str(value) if isinstance(value, Path) else value


def _flat(tree: Mapping[str, Any], key: Key) -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, (*key, name))
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            yield from _flat({str(place): one for place, one in enumerate(value)}, (*key, name))
        else:
            yield ".".join((*key, name)), _text(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))


def _canonical(value: Any) -> Any:
    """Write 500.0 as 500, so that a number has one form."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _canonical(member) for name, member in value.items()}
    return [_canonical(member) for member in value] if isinstance(value, list) else value
