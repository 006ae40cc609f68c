"""Which experiment a command is about that looks at many runs."""

import logging
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mmrun.config.loading import load_experiment
from mmrun.config.schema import Experiment
from mmrun.errors import ConfigError, UsageError
from mmrun.tracking import launcher
from mmrun.tracking.address import sqlite_file, tracking_uri
from mmrun.tracking.store import RecordedExperiment, RunStore

logger = logging.getLogger(__name__)

USUAL_FILE = Path("params.yaml")
"""What counts in the current folder where no experiment file is named."""

_DEFAULT = "0"
"""The experiment that every store has, and where `mlflow run` puts its runs if told nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """An experiment in a store, or the reason why there are no runs to look at."""

    store: RunStore | None = None
    experiment: RecordedExperiment | None = None
    nothing: str = ""


def usual_experiment(config_path: Path | None) -> Experiment:
    """Return what the named file says, else `params.yaml` if there is one, else the defaults."""
    if config_path is not None:
        return load_experiment(config_path)
    if USUAL_FILE.is_file():
        try:
            return load_experiment(USUAL_FILE)
        except ConfigError as error:  # nobody named it, and it may be of another program
            logger.debug("%s is not used: %s", USUAL_FILE, error)
    return Experiment()


def find_shelf(words: str | None, *, config_path: Path | None, uri: str | None) -> Shelf:
    """Return the experiment that ``words`` mean, or that a training would be recorded in.

    Nothing is made: neither a database nor an experiment.

    Raises:
        UsageError: an experiment was named that is not there.
        TrackingError: the store does not answer.
    """
    usual = usual_experiment(config_path)
    address = uri or tracking_uri(usual.tracking.uri, project=Path.cwd())
    file = sqlite_file(address)
    if file is not None and not file.exists():
        return Shelf(nothing=f"no run has been recorded yet: there is no database {file}")
    from mmrun.tracking.mlflow_store import MlflowStore

    store = MlflowStore(address, patience_s=3)
    return _shelf(store, words, configured=usual.tracking.experiment)


def _shelf(store: RunStore, words: str | None, *, configured: str) -> Shelf:
    there = store.experiments()
    given_id = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if words is not None:
        return Shelf(store=store, experiment=_named(words, there, uri=store.uri))
    if given_id:
        found = _named(given_id, there, uri=store.uri, by="MLFLOW_EXPERIMENT_ID: ")
        return Shelf(store=store, experiment=found)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or configured
    usual = _matching(name, there)
    if usual is not None:
        return Shelf(store=store, experiment=usual)
    names = [repr(one.name) for one in there if one.experiment_id != _DEFAULT or _used(store)]
    others = f"; there is {', '.join(names[:5])}: choose it with --experiment" if names else ""
    return Shelf(store=store, nothing=f"no run of {name!r} is recorded at {store.uri}{others}")


def _used(store: RunStore) -> bool:
    """Tell whether somebody trained with `mlflow run` and named no experiment."""
    return bool(store.find(experiment_id=_DEFAULT, tags={launcher.OWN_TAG: "1"}))


def _named(
    words: str, there: list[RecordedExperiment], *, uri: str, by: str = ""
) -> RecordedExperiment:
    found = _matching(words, there)
    if found is not None:
        return found
    names = [one.name for one in there]
    near = get_close_matches(words, names, n=1)
    hint = f"--experiment {near[0]}" if near else f"one of: {', '.join(names[:5])}"
    raise UsageError(f"{by}there is no experiment {words!r} at {uri}", hint=hint)


def _matching(words: str, there: list[RecordedExperiment]) -> RecordedExperiment | None:
    """Return the experiment of that name, else of that id."""
    by_name = {one.name: one for one in there}
    by_id = {one.experiment_id: one for one in there}
    return by_name.get(words) or by_id.get(words)
