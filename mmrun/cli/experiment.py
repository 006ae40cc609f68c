"""From what stands on the command line to a checked experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmrun.cli.command_line import Setting
from mmrun.config.loading import Override, load_experiment
from mmrun.config.schema import Experiment
from mmrun.errors import UsageError

_SOURCES = {
    "data.dataset_type": "--modality",
    "training.per_device_eval_batch_size": "--batch_size",
}
"""Options whose name is not the one of the key that they set."""

_ACTORS = {
    "data.dataset_dir": "dataset",
    "model.model_name_or_path": "model",
    "processor.processor_name_or_path": "processor",
}
"""Options that name an actor, and the folder that setup gives it."""


def setup_of(
    settings: Sequence[Setting], *, setup_path: Path | None
) -> tuple[Sequence[Setting], Path | None]:
    """Take actors of one setup that are named one by one for the folder that they lie in.

    Those of several folders stay among the settings, where they are refused.
    """
    named = {given.key: Path(given.text) for given in settings if given.key in _ACTORS}
    folders = {path.parent for path in named.values()}
    as_setup_does = all(path.name == _ACTORS[key] for key, path in named.items())
    if setup_path is not None or len(folders) != 1 or not as_setup_does:
        return settings, setup_path
    return [given for given in settings if given.key not in named], folders.pop()


def overrides_of(
    settings: Sequence[Setting],
    *,
    assignments: Sequence[str] | None,
    options: Mapping[str, str | bool | None],
) -> tuple[Override, ...]:
    """Return everything on the command line that sets a key; each key once.

    ``options`` are the command's own ones, by the key that they set; ``assignments`` are the
    values of ``--set``.
    """
    found = [
        *(_from_option(key, value) for key, value in options.items() if value is not None),
        *(Override(key=given.key, text=given.text, source=given.source) for given in settings),
        *(_from_assignment(text) for text in assignments or ()),
    ]
    first: dict[str, Override] = {}
    for override in found:
        other = first.setdefault(override.key, override)
        if other is not override:
            raise UsageError(
                f"{override.key} is given twice, by {other.source} and {override.source}",
                hint="keep the one that is meant",
            )
    return tuple(found)


def experiment_of(path: Path | None, *, overrides: Sequence[Override]) -> Experiment | None:
    """Return the experiment of a file; without one, only check what the command line says."""
    experiment = load_experiment(path, overrides=overrides)
    return experiment if path is not None else None


def required(path: Path | None, *, command: str) -> Path:
    """Return the experiment file that ``command`` cannot do without."""
    if path is None:
        raise UsageError(
            f"{command} needs an experiment file", hint=f"{command} --config_path FILE"
        )
    return path


def one_reference(*given: str | None) -> str | None:
    """Return the one reference to a checkpoint among two options that mean the same."""
    found = [reference for reference in given if reference is not None]
    if len(found) > 1:
        raise UsageError(
            f"two checkpoints are named: {found[0]} and {found[1]}",
            hint="give --model_name_or_path alone",
        )
    return next(iter(found), None)


def _from_option(key: str, value: str | bool) -> Override:
    text = str(value).lower() if isinstance(value, bool) else value
    source = _SOURCES.get(key, f"--{key.rpartition('.')[2]}")
    return Override(key=key, text=text, source=source)


def _from_assignment(text: str) -> Override:
    key, equals, value = text.partition("=")
    if not equals or "." not in key.strip("."):
        reason = "has no '='" if not equals else "names no section"
        raise UsageError(f"--set {key!r} {reason}", hint="--set section.key=value")
    return Override(key=key.strip(), text=value, source="--set")
