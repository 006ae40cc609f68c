"""Open a run: a new one in the store, or the one that `mlflow run` made."""

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrun.config.loading import flat
from mmrun.provenance.source import SourceState, environment
from mmrun.tracking import launcher
from mmrun.tracking.run_file import RunFile, write_run_file
from mmrun.tracking.store import RunStore
from mmrun.workflows.beginning import Beginning
from mmrun.workflows.output_folder import clear
from mmrun.workflows.place import Place, comparable

_WEIGHTS = (".safetensors", ".bin", ".arrow")
"""What is not sent with the actors: weights are in the checkpoints, data is versioned apart."""


def start_run(beginning: Beginning) -> Place:
    """Make room, open the run and record the configuration; return the place with its run."""
    place = beginning.place
    if place.fresh:
        clear(place.output_dir)
    experiment = place.experiment
    tags = {launcher.OWN_TAG: "1", launcher.ROLE_TAG: "training", **_source_tags(beginning.source)}
    if beginning.started_from is not None:
        tags["mmrun.started_from"] = beginning.started_from
    run = place.launched
    if run is None:
        run = place.store.create(
            experiment=experiment.tracking.experiment,
            name=experiment.tracking.run_name or experiment.training.run_name,
            tags=tags,
        )
    else:
        place.store.set_tags(run.run_id, tags)
    place = replace(place, run=run, launched=None)
    record_run(place, ())
    params = {f"cfg.{key}": value for key, value in flat(experiment).items()}
    place.store.log_params(run.run_id, params)
    return place


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
    with TemporaryDirectory(prefix="mmrun-") as scratch:
        folder = Path(scratch)
        texts = {
            f"requirements.a{attempt}.txt": "\n".join(environment()) + "\n",
            f"uncommitted.a{attempt}.diff": beginning.source.diff,
        }
        for name, text in texts.items():
            if text.strip():
                (folder / name).write_text(text, encoding="utf-8")
                store.artifacts(run_id).upload(folder / name, to="provenance")
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
