"""Where a training happens: its folder, its store, its run if there is one already."""

import logging
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol

from mmrun.checkpoints.found import found_at, manifest_at
from mmrun.checkpoints.reference import Reference, parse
from mmrun.config.loading import Override, fingerprint
from mmrun.config.schema import Experiment
from mmrun.errors import CheckpointError, TrackingError, UsageError
from mmrun.tracking import launcher
from mmrun.tracking.address import absolute, tracking_uri
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.offline_store import unknown_run
from mmrun.tracking.run_file import RunFile, read_run_file
from mmrun.tracking.store import Run, RunStore
from mmrun.workflows.offline import offline_store
from mmrun.workflows.output_folder import refuse_foreign
from mmrun.workflows.past import Past, read_past, source_past
from mmrun.workflows.which_fork import STARTED_TAG, Origin, origin_asked, origin_of, refuse_other
from mmrun.workflows.which_run import Claims, which_run
from mmrun.workflows.whose import is_bare, is_plain, run_of_folder, run_of_reference

logger = logging.getLogger(__name__)

_LENGTH = ("max_steps", "num_train_epochs")
"""Under DVC these continue a run when they are raised; everything else starts a new one."""


class Wanted(Protocol):
    """What of a request decides the place."""

    @property
    def experiment(self) -> Experiment | None:
        """The experiment file with its overrides, if one was given."""
        ...

    @property
    def overrides(self) -> tuple[Override, ...]:
        """What the command line sets, for a stored configuration."""
        ...

    @property
    def output_dir(self) -> Path | None:
        """``--output_dir``."""
        ...

    @property
    def resume_from_checkpoint(self) -> str | None:
        """The reference, as it was written."""
        ...

    @property
    def overwrite_output_dir(self) -> bool | None:
        """``--overwrite_output_dir``, if it was given."""
        ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder, a store, and the run that goes on there (None for a new one)."""

    experiment: Experiment
    output_dir: Path
    store: RunStore
    run: Run | None
    run_file: RunFile | None
    launched: Run | None
    """The run that `mlflow run` made before it started us."""
    reference: Reference | None
    """The checkpoint of the run that was asked for."""
    fresh: bool
    """Whether what an earlier run left in the folder is to be removed."""
    origin: Origin | None = None
    """Where a fork begins that has no checkpoint of its own yet."""
    offline: bool = False
    """Whether the store is this disk, and no server is asked."""

    @property
    def run_id(self) -> str:
        """The run's id; there must be one by now."""
        if self.run is None:
            raise AssertionError("the run has not been started yet")
        return self.run.run_id

    @property
    def experiment_id(self) -> str:
        """The experiment of the run; there must be one by now."""
        if self.run is None:
            raise AssertionError("the run has not been started yet")
        return self.run.experiment_id


def find_place(wanted: Wanted, *, fork: bool = False, offline: bool = False) -> Place:
    """Resolve folder, store and run from what was asked for; changes nothing.

    A ``fork`` is a new run that begins with the reference, or one that was begun so already.
    ``offline`` asks no server: what is known of the run is what this folder knows.
    """
    folder = _folder(wanted.output_dir, wanted.experiment)
    if folder is None:
        # The configuration of the run names the folder: whose that is has to be asked as well.
        place = _place_at(None, wanted, dict(os.environ), fork=fork, offline=offline)
        folder = place.output_dir
    return _place_at(folder, wanted, os.environ, fork=fork, offline=offline)


def _place_at(
    folder: Path | None,
    wanted: Wanted,
    environment_variables: MutableMapping[str, str],
    *,
    fork: bool,
    offline: bool,
) -> Place:
    reference = parse(wanted.resume_from_checkpoint or "")
    if folder is not None:
        refuse_foreign(folder)
    run_file = read_run_file(folder) if folder is not None else None
    if offline:
        store: RunStore = _store_here(wanted, folder, run_file, fork=fork)
    else:
        store = open_store(wanted.experiment, run_file)
    environment = launcher.environment_run(store, environment_variables)
    own = environment is not None and launcher.is_own(environment)
    fresh = _fresh(wanted, folder, run_file)
    claims = Claims(
        reference=run_of_reference(reference),
        environment=environment.run_id if environment is not None and own else None,
        folder=run_of_folder(folder, run_file),
    )
    origin = None
    if fork and not is_plain(reference):
        run_id, origin = _forked(reference, claims, store=store, folder=folder, fresh=fresh)
        reference = None
    else:
        run_id = _continued(reference, claims, fresh=fresh)
    if run_id is None:
        store.ping()  # before anything is made for a run that could not be recorded
    if run_id is not None and not offline:
        _refuse_unknown(run_id, folder)
    run = store.read(run_id) if run_id is not None else None
    _refuse_plain_in_run(reference, run)
    origin = origin or (origin_of(run) if run is not None else None)
    experiment = wanted.experiment or _stored(store, run, run_file, origin, wanted.overrides)
    output_dir = folder or _folder(None, experiment) or _no_folder()
    if run is None and reference is not None and reference.path is None:
        raise CheckpointError(
            f"{reference.text} points at no checkpoint: no run belongs to {output_dir}",
            hint=f"name the run, too, as in RUN_ID@{reference.which or 'latest'}",
        )
    return Place(
        experiment=experiment,
        output_dir=output_dir,
        store=store,
        run=run,
        run_file=run_file if run is not None and not fresh else None,
        launched=None if own else environment,
        reference=reference,
        fresh=fresh,
        origin=origin,
        offline=offline,
    )


def _store_here(
    wanted: Wanted, folder: Path | None, run_file: RunFile | None, *, fork: bool
) -> RunStore:
    """Return what is known on this disk, or refuse what cannot be done with that alone."""
    if folder is None:
        _no_folder()
    named = [launcher.VARIABLE] if launcher.VARIABLE in os.environ else []
    named += ["--fork"] if fork else []
    if named:
        raise UsageError(
            f"{named[0]} needs the tracking server, and --offline asks for none",
            hint="leave one of the two out",
        )
    run_id = run_of_folder(folder, run_file)
    return offline_store(folder, experiment=wanted.experiment, run_id=run_id, run_file=run_file)


def _refuse_unknown(run_id: str, folder: Path | None) -> None:
    if folder is not None and run_id == unknown_run(folder):
        raise TrackingError(
            f"the run of {folder} was trained offline, and no server knows it yet",
            hint=f"mmrun sync {folder}; or the same with --offline",
        )


def _continued(reference: Reference | None, claims: Claims, *, fresh: bool) -> str | None:
    """Return the run that goes on; `latest` alone is that of the output folder's."""
    if is_bare(reference):
        claims = replace(claims, reference=claims.folder)
    return which_run(claims, fresh=fresh)


def _forked(
    reference: Reference | None,
    claims: Claims,
    *,
    store: RunStore,
    folder: Path | None,
    fresh: bool,
) -> tuple[str | None, Origin | None]:
    """Return the fork that goes on and what it begins with; None: a new one, and as its tag says.

    Schedulers start the same command again.
    """
    if is_bare(reference):
        claims = replace(claims, reference=claims.environment or claims.folder)
    named = reference.path if reference is not None else None
    asked = origin_asked(reference, claims, manifest=manifest_at(named) if named else None)
    if folder is None:
        raise UsageError(
            "a fork needs an output folder of its own",
            hint=f"--fork --output_dir NEW --resume_from_checkpoint {asked.reference.text}",
        )
    if claims.folder is None or (fresh and claims.folder != asked.run_id):
        return None, asked
    run = store.read(claims.folder)
    refuse_other(run, asked=asked, folder=folder)
    logger.info("run %s is that fork of run %s already: it goes on", run.run_id, asked.run_id)
    return run.run_id, asked if named else None


def open_store(
    experiment: Experiment | None, run_file: RunFile | None, *, uri: str | None = None
) -> RunStore:
    """Open the store that counts: ``uri``, the environment's, the file's, the folder's."""
    if uri is not None:
        return MlflowStore(absolute(uri, folder=Path.cwd()))
    configured = experiment.tracking.uri if experiment is not None else None
    if configured is None and run_file is not None:
        configured = run_file.tracking_uri
    return MlflowStore(tracking_uri(configured, project=Path.cwd()))


def comparable(experiment: Experiment) -> str:
    """Return a digest of the configuration without the training's length."""
    arguments = {
        key: value for key, value in experiment.training.arguments.items() if key not in _LENGTH
    }
    training = experiment.training.model_copy(update={"arguments": arguments})
    return fingerprint(experiment.model_copy(update={"training": training}))


def _folder(output_dir: Path | None, experiment: Experiment | None) -> Path | None:
    if output_dir is not None:
        return output_dir
    return experiment.training.output_dir if experiment is not None else None


def _no_folder() -> NoReturn:
    raise UsageError(
        "there is no output folder", hint="give --output_dir, or training.output_dir in the file"
    )


def _fresh(wanted: Wanted, folder: Path | None, run_file: RunFile | None) -> bool:
    """Tell whether a new run was asked for; a word on the command line is the last one."""
    if folder is None:
        return False
    if wanted.overwrite_output_dir is not None:
        return wanted.overwrite_output_dir
    experiment = wanted.experiment
    if experiment is not None and experiment.training.overwrite_output_dir:
        return True
    return _other_under_dvc(experiment, run_file)


def _other_under_dvc(experiment: Experiment | None, run_file: RunFile | None) -> bool:
    # DVC keeps the checkpoints of other parameters too; a run continued with them would make
    # dvc.lock record weights that were not trained so.
    if "DVC_STAGE" not in os.environ or run_file is None or experiment is None:
        return False
    same = run_file.config_fingerprint == comparable(experiment)
    same = same and run_file.dvc_experiment == os.environ.get("DVC_EXP_NAME", "")
    if not same:
        logger.info("the configuration changed under DVC: a new run, not the one before")
    return not same


def _refuse_plain_in_run(reference: Reference | None, run: Run | None) -> None:
    if reference is None or reference.path is None or not is_plain(reference):
        return
    found_at(reference.path)  # what is no checkpoint at all is refused as that
    if run is not None and run.tags.get(STARTED_TAG) != str(reference.path.resolve()):
        raise UsageError(
            f"{reference.path} belongs to no run, and the output folder to run {run.run_id}",
            hint="give a new --output_dir: a checkpoint of another program starts a new run",
        )


def _stored(
    store: RunStore,
    run: Run | None,
    run_file: RunFile | None,
    origin: Origin | None,
    overrides: Sequence[Override],
) -> Experiment:
    if run is None and origin is None:
        raise UsageError(
            "there is no experiment file, and no run whose configuration could be used",
            hint="give --config_path FILE, or --resume_from_checkpoint RUN_ID@latest",
        )
    past = read_past(store, run, run_file) if run is not None else Past()
    return source_past(past, store=store, origin=origin).experiment(overrides)
