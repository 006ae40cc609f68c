"""The run that `mlflow run` makes before it starts us.

A new training takes it as its own. A training that continues another run marks it, so that it can
be told from real runs, and a later command removes it: removing it while `mlflow run` still waits
would make that fail.
"""

import json
import logging
import os
from collections.abc import MutableMapping
from dataclasses import asdict

from mmrun.errors import TrackingError
from mmrun.tracking.orphan import mlflow_process
from mmrun.tracking.process import ProcessId, is_alive
from mmrun.tracking.store import Run, RunStore

logger = logging.getLogger(__name__)

VARIABLE = "MLFLOW_RUN_ID"
OWN_TAG = "mmrun.format"
ROLE_TAG = "mmrun.role"
ROLE = "launcher"
_PROJECT_TAG = "mlflow.project.entryPoint"
"""Every run that `mlflow run` makes has it."""
_NOTE = "mlflow.note.content"
_NOTE_TEXT = "Started by `mlflow run`; the training is run "
_OF_SETUP = "setup"
"""What `mmrun setup` stores: the run that goes on has it, too."""
_PROCESS_TAG = "mmrun.launcher"
"""The `mlflow run` that waits: one that was killed never says that its run has ended."""
_ENDED = {"FINISHED", "FAILED", "KILLED"}
_DEFAULT_EXPERIMENT = "0"
"""Where `mlflow run` makes its run if it is told nothing else."""


def environment_run(store: RunStore, environment: MutableMapping[str, str]) -> Run | None:
    """Return the run that the environment names, and take the variable out of it.

    Left there, it would be taken as their own by every child process that uses MLflow.
    """
    run_id = environment.pop(VARIABLE, None)
    return store.read(run_id) if run_id else None


def is_own(run: Run) -> bool:
    """Whether mmrun made or adopted the run; otherwise it is a launcher's."""
    return OWN_TAG in run.tags


def is_launched(run: Run) -> bool:
    """Whether `mlflow run` made the run: nobody else needs it once it has ended."""
    return _PROJECT_TAG in run.tags


def mark(store: RunStore, launcher: Run, *, delegated_to: str) -> None:
    """Say on the launcher's run which run went on instead; leave other people's runs alone."""
    if not is_launched(launcher):
        return
    process = mlflow_process()
    store.set_tags(
        launcher.run_id,
        {
            ROLE_TAG: ROLE,
            "mmrun.delegated_to": delegated_to,
            **({} if _NOTE in launcher.tags else {_NOTE: f"{_NOTE_TEXT}{delegated_to}."}),
            **({} if process is None else {_PROCESS_TAG: json.dumps(asdict(process))}),
        },
    )


def close(store: RunStore, launcher: Run) -> None:
    """End the launcher's run, which `mlflow run` would do if it still lived."""
    if not is_launched(launcher):
        return
    try:
        store.set_status(launcher.run_id, "KILLED")
    except TrackingError as error:
        logger.debug("the launcher's run was not ended: %s", error)


def is_over(launcher: Run) -> bool | None:
    """Tell whether `mlflow run` needs its run no more; None where that cannot be told from here."""
    if launcher.status in _ENDED:
        return True
    try:
        process = ProcessId(**json.loads(launcher.tags[_PROCESS_TAG]))
    except (KeyError, ValueError, TypeError):
        return None
    alive = is_alive(process)
    return None if alive is None else not alive


def marked(store: RunStore, experiment_id: str) -> list[Run]:
    """Return launchers' runs in this experiment and where launchers make theirs."""
    launched_in = os.environ.get("MLFLOW_EXPERIMENT_ID") or _DEFAULT_EXPERIMENT
    places = sorted({experiment_id, launched_in, _DEFAULT_EXPERIMENT})
    found = [run for at in places for run in store.find(experiment_id=at, tags={ROLE_TAG: ROLE})]
    return [run for run in found if is_launched(run)]


def is_empty(store: RunStore, launcher: Run) -> bool:
    """Tell whether nobody recorded anything in a launcher's run, as other steps of a project may.

    Parameters do not count: `mlflow run` logs its own.
    """
    if launcher.newest or not launcher.tags.get(_NOTE, _NOTE_TEXT).startswith(_NOTE_TEXT):
        return False
    artifacts = store.artifacts(launcher.run_id).list()
    return all(entry.path == _OF_SETUP for entry in artifacts)


def sweep(store: RunStore, experiment_id: str) -> None:
    """Remove launchers' runs that are over, from this experiment and from those of launchers."""
    try:
        for run in marked(store, experiment_id):
            if is_over(run) and is_empty(store, run):
                store.delete(run.run_id)
    except TrackingError as error:
        logger.debug("launchers' runs were not removed: %s", error)


def under_wrapper() -> bool:
    """Whether `mlflow run` or `dvc repro` started this process."""
    return VARIABLE in os.environ or "DVC_STAGE" in os.environ
