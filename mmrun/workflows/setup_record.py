"""`mmrun setup` under `mlflow run`: the launcher's run is the record of what was set up."""

import os

from mmrun.config.schema import Experiment
from mmrun.provenance.data import data_version
from mmrun.tracking import launcher
from mmrun.workflows.actors import Actors


def record_setup(experiment: Experiment, actors: Actors) -> None:
    """Store the actors' settings and the data version, where a launcher made a run for it."""
    if launcher.VARIABLE not in os.environ:
        return
    from mmrun.workflows.new_run import upload_actors  # MLflow, which setup alone does not need
    from mmrun.workflows.place import open_store

    store = open_store(experiment, None)
    run = launcher.environment_run(store, os.environ)
    if run is None or launcher.is_own(run) or not launcher.is_launched(run):
        return
    upload_actors(store, run.run_id, actors.folder)
    store.set_tags(
        run.run_id,
        {launcher.ROLE_TAG: "setup", "mmrun.data": data_version(experiment)},
    )
