"""The tracking server, the experiment, and where artifacts go."""

import os
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from mmrun.errors import TrackingError
from mmrun.tracking.address import sqlite_file
from mmrun.tracking.store import RecordedExperiment, RunStore
from mmrun.workflows.doctor.finding import Finding, fail, ok, warn
from mmrun.workflows.doctor.patient import Patient

_SLOW_S = 1.0
_APART_S = 60.0
_NOT_ASKED = "not looked at, since the tracking server does not answer"
_FIRST_SERVER = "the tracking server first"
_TRACKING = TrackingError.exit_code
_DEFAULT = "0"
"""The experiment that every store has: new ones keep their artifacts beside its own."""


def server(patient: Patient) -> Iterator[Finding]:
    """Ask the tracking server, and see how long an answer takes."""
    file = sqlite_file(patient.uri)
    if file is not None and not file.exists():
        yield _new_database(file)
        return
    from mmrun.tracking.mlflow_store import MlflowStore

    store = MlflowStore(patient.uri, patience_s=3)
    store.ping()
    begun = time.monotonic()
    store.ping()
    took_s = time.monotonic() - begun
    patient.store, patient.server = store, store.server()
    fact = f"{store.uri} answers in {took_s * 1000:.0f} ms{_versions(patient)}"
    if took_s > _SLOW_S:
        yield warn(fact, "training does not wait for it, but beginning and resuming take longer")
    elif patient.server is not None and _is_other(patient.server.version):
        yield warn(fact, "use the same major version of MLflow here and there")
    else:
        yield ok(fact)


def clock(patient: Patient) -> Iterator[Finding]:
    """Compare the clock of this machine with that of the server."""
    if patient.server is None or patient.server.clock_s is None:
        return  # a database has none
    store = patient.store
    asked = store.server() if store is not None else None
    now = time.time()
    if asked is None or asked.clock_s is None:
        return
    apart_s = now - asked.clock_s
    fact = f"this machine's clock is {abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'}"
    if abs(apart_s) > _APART_S:
        yield warn(
            f"{fact} the server's",
            "set the clock (NTP): MLflow's page would show metrics at a wrong time",
        )
    else:
        yield ok("within a minute of the server's")


def experiment(patient: Patient) -> Iterator[Finding]:
    """Look for the experiment of the folder's run, else for the one that a new run goes to."""
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or patient.experiment.tracking.experiment
    if patient.store is None:
        yield _unknown(patient, f"{name!r} will be made")
        return
    there = patient.store.experiments()
    by_id = {one.experiment_id: one for one in there}
    found = by_id.get(given) if given else {one.name: one for one in there}.get(name)
    own = by_id.get(patient.run_file.experiment_id) if patient.run_file is not None else None
    patient.shelf = own or found or by_id.get(_DEFAULT)
    if own is not None:
        yield ok(f"{own.name!r}, id {own.experiment_id}, which has the run of the output folder")
    elif found is not None:
        yield ok(f"{found.name!r}, id {found.experiment_id}")
    elif gone := _deleted(patient.store, given=given, name=name):
        yield fail(
            f"{gone.name!r}, id {gone.experiment_id}, was deleted",
            f"bring it back with 'mlflow experiments restore --experiment-id {gone.experiment_id}'"
            ", or choose another one",
            exit_code=_TRACKING,
        )
    elif given:
        yield fail(
            f"MLFLOW_EXPERIMENT_ID is {given}, and there is no such experiment",
            "unset it, or give one of 'mlflow experiments search'",
            exit_code=_TRACKING,
        )
    else:
        yield ok(f"{name!r} is not there yet: the first training makes it")


def _deleted(store: RunStore, *, given: str | None, name: str) -> RecordedExperiment | None:
    gone = store.experiments(deleted=True)
    by_id = {one.experiment_id: one for one in gone}
    return by_id.get(given) if given else {one.name: one for one in gone}.get(name)


def artifacts(patient: Patient) -> Iterator[Finding]:
    """Write, read and delete a file where runs keep their artifacts."""
    if patient.store is None or patient.shelf is None:
        yield _unknown(patient, "will be made beside the database")
        return
    from mmrun.tracking.probe import local_folder, probe

    location = patient.shelf.artifact_location
    folder = local_folder(location)
    if folder is not None and patient.server is not None:
        yield _on_one_machine(patient.shelf, folder)
        if not folder.parent.is_dir():
            return  # the probe would make it here, where nobody looks for it
    tried = probe(patient.store, location)
    if tried.left:
        yield warn(
            f"{location} can be written and read, but not deleted from: {tried.why}; a small file "
            f"stays at {tried.left}",
            "allow deletion, or old checkpoints stay in the store for ever",
        )
    else:
        yield ok(f"{location}: a file was written, read and deleted")


def _new_database(file: Path) -> Finding:
    folder = next(parent for parent in file.parents if parent.exists())
    if os.access(folder, os.W_OK):
        return ok(f"no database {file} yet: the first training makes it")
    return fail(
        f"{file} is not there, and {folder} cannot be written to",
        "set MLFLOW_TRACKING_URI to a place that can be written",
        exit_code=_TRACKING,
    )


def _versions(patient: Patient) -> str:
    here = version("mlflow")
    if patient.server is None:
        return f", MLflow {here}"
    there = patient.server.version or "of an unknown version"
    return f", MLflow {here} here and there" if there == here else f", MLflow {there}, here {here}"


def _is_other(there: str | None) -> bool:
    return there is not None and there.partition(".")[0] != version("mlflow").partition(".")[0]


def _unknown(patient: Patient, planned: str) -> Finding:
    """Say what is not known; a database that the first training makes is no fault."""
    file = sqlite_file(patient.uri)
    if file is not None and not file.exists():
        return ok(planned)
    return warn(_NOT_ASKED, _FIRST_SERVER)


def _on_one_machine(shelf: RecordedExperiment, folder: Path) -> Finding:
    """Tell what a path means where runs are asked for over the network."""
    fact = f"artifacts of {shelf.name!r} lie in {folder}, a path on each machine that uses it"
    remedy = (
        "start the server with --artifacts-destination, and use a new experiment; or mount that "
        "folder on every machine"
    )
    if folder.parent.is_dir():
        return warn(f"{fact}: other machines do not see what is written here", remedy)
    return fail(f"{fact}: here it is not there", remedy, exit_code=_TRACKING)
