"""Open a run: a new one in the store, or the one that `mlflow run` made."""

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mmrun import faults
from mmrun.config.loading import flat
from mmrun.errors import StopRequested, TrackingError, UsageError
from mmrun.files import write_whole
from mmrun.provenance.source import SourceState, environment
from mmrun.tracking import launcher
from mmrun.tracking.lease import Lease
from mmrun.tracking.run_file import RunFile, write_run_file
from mmrun.tracking.store import Run, RunStatus, RunStore
from mmrun.training.stopping import StopWish, TimeOver, limited
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.closing import LEAST_S
from mmrun.workflows.output_folder import clear
from mmrun.workflows.place import Place, comparable
from mmrun.workflows.records import START_TAG
from mmrun.workflows.which_fork import FORKED_TAG, STARTED_TAG

logger = logging.getLogger(__name__)

STARTING = ".mmrun.starting"
_WEIGHTS = (".safetensors", ".bin", ".arrow")
"""What is not sent with the actors: weights are in the checkpoints, data is versioned apart."""


def start_run(beginning: Beginning, *, wish: StopWish) -> Place:
    """Make room and open the run; return the place with its run.

    Who dies between the store's answer and the note of it in the folder leaves a run that nobody
    knows: the next start finds it by its tag and removes it.
    """
    place = beginning.place
    if beginning.inheritance is None:
        _refuse_own_origin(beginning)
    clear(place.output_dir)
    store, note = place.store, place.output_dir / STARTING
    lost = note.read_text(encoding="utf-8") if note.exists() else None
    nonce = uuid.uuid4().hex
    write_whole(note, nonce)
    run = place.launched or store.create(
        experiment=place.experiment.tracking.experiment,
        name=place.experiment.tracking.run_name or place.experiment.training.run_name,
        tags={START_TAG: nonce},
    )
    with said_if_refused(replace(beginning, place=replace(place, run=run)), wish=wish):
        return _noted(beginning, run, note=note, lost=lost)


def _noted(beginning: Beginning, run: Run, *, note: Path, lost: str | None) -> Place:
    """Say what the run is, in the store and in the folder."""
    place, store = beginning.place, beginning.place.store
    faults.reach("run.created")
    if lost is not None:
        for left in store.find(experiment_id=run.experiment_id, tags={START_TAG: lost}):
            if not left.params:  # whoever worked on it has claimed it; the note may be an old one
                store.delete(left.run_id)
    tags = {launcher.OWN_TAG: "1", launcher.ROLE_TAG: "training", **_source_tags(beginning.source)}
    if beginning.started_from is not None:
        tags[STARTED_TAG] = beginning.started_from
    if beginning.forked_from is not None:
        tags[FORKED_TAG] = beginning.forked_from
    store.set_tags(run.run_id, tags)
    place = replace(place, run=run, launched=None)
    record_run(place, ())
    note.unlink()
    faults.reach("run.noted")
    return place


@contextmanager
def said_if_refused(
    beginning: Beginning, *, wish: StopWish, lease: Lease | None = None
) -> Iterator[None]:
    """Leave no run that seems to be under way when its first attempt was never opened."""
    try:
        yield
    except BaseException as error:
        if not beginning.past.attempts:
            wish.over = True  # a signal would end this half-way
            stopped = isinstance(error, StopRequested | KeyboardInterrupt)
            _say_refused(beginning.place, "KILLED" if stopped else "FAILED", lease=lease)
        raise


def _say_refused(place: Place, status: RunStatus, *, lease: Lease | None) -> None:
    try:
        with limited(LEAST_S):
            place.store.set_status(place.run_id, status)
            if lease is not None:
                lease.release()
    except (TimeOver, TrackingError):
        logger.warning("run %s was not told that it is %s", place.run_id, status)
        if lease is not None:
            lease.abandon()


def _refuse_own_origin(beginning: Beginning) -> None:
    checkpoint, output_dir = beginning.checkpoint, beginning.place.output_dir
    if checkpoint is not None and checkpoint.resolve().is_relative_to(output_dir.resolve()):
        raise UsageError(
            f"{checkpoint} lies in the output folder, which a new run begins with empty",
            hint="give a new --output_dir",
        )


def record_parameters(place: Place) -> None:
    """Log the configuration of the first attempt, except what a dead process logged before."""
    known = place.run.params if place.run is not None else {}
    params = {f"cfg.{key}": value for key, value in flat(place.experiment).items()}
    new = {key: value for key, value in params.items() if key not in known}
    place.store.log_params(place.run_id, new)


def record_run(place: Place, lineage: tuple[tuple[int, int], ...]) -> None:
    """Write down in the folder which run it belongs to."""
    if place.run is None:
        return
    write_run_file(
        place.output_dir,
        RunFile(
            run_id=place.run.run_id,
            tracking_uri=place.store.uri,
            experiment_id=place.run.experiment_id,
            lineage=lineage,
            config_fingerprint=comparable(place.experiment),
            dvc_experiment=os.environ.get("DVC_EXP_NAME", ""),
        ),
    )


def upload_provenance(beginning: Beginning, *, attempt: int, actors: Path) -> None:
    """Store what the run is made from: packages, uncommitted changes, the actors' settings."""
    store, run_id = beginning.place.store, beginning.place.run_id
    texts = {
        f"requirements.a{attempt}.txt": "\n".join(environment()) + "\n",
        f"uncommitted.a{attempt}.diff": beginning.source.diff,
    }
    for name, text in texts.items():
        if text.strip():
            store.artifacts(run_id).write(f"provenance/{name}", text.encode())
    if attempt == 1:
        upload_actors(store, run_id, actors)


def upload_actors(store: RunStore, run_id: str, actors: Path) -> None:
    """Store the settings of the actors, under `setup/`."""
    for path in sorted(actors.rglob("*")):
        if path.is_file() and path.suffix not in _WEIGHTS:
            folder = Path("setup") / path.relative_to(actors).parent
            store.artifacts(run_id).upload(path, to=folder.as_posix())


def _source_tags(source: SourceState) -> dict[str, str]:
    tags = {"mlflow.source.name": "mmrun train", "mlflow.source.type": "LOCAL"}
    if source.git_revision is not None:
        tags["mlflow.source.git.commit"] = source.git_revision
        tags["mmrun.uncommitted_changes"] = str(source.dirty).lower()
    return tags
