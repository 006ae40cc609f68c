"""What is looked at: an experiment, where it is recorded, and an output folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmrun.config.loading import load_experiment
from mmrun.config.schema import Experiment
from mmrun.errors import ConfigError, MmrunError
from mmrun.tracking.address import tracking_uri
from mmrun.tracking.run_file import RunFile, read_run_file
from mmrun.tracking.store import RecordedExperiment, Run
from mmrun.workflows.which_experiment import USUAL_FILE

if TYPE_CHECKING:
    from mmrun.tracking.mlflow_connection import Server
    from mmrun.tracking.mlflow_store import MlflowStore


@dataclass(kw_only=True)
class Patient:
    """What the checks are about; the first ones add what the later ones need."""

    config_path: Path | None
    """The experiment file that counts, named or not."""
    named: bool
    experiment: Experiment
    config_error: ConfigError | None
    output_dir: Path | None
    run_file: RunFile | None
    folder_error: MmrunError | None
    uri: str
    store: "MlflowStore | None" = None
    """None as long as nothing answers."""
    server: "Server | None" = None
    shelf: RecordedExperiment | None = None
    run: Run | None = None
    """The run of the output folder."""


def patient_of(
    output_dir: Path | None, *, config_path: Path | None, tracking_uri_given: str | None
) -> Patient:
    """Put together what a training with these would use; what is wrong with it is kept."""
    file = config_path or (USUAL_FILE if USUAL_FILE.is_file() else None)
    experiment, config_error = Experiment(), None
    try:
        experiment = load_experiment(file) if file is not None else experiment
    except ConfigError as error:
        config_error = error
    folder = output_dir or experiment.training.output_dir
    run_file, folder_error = None, None
    try:
        run_file = read_run_file(folder) if folder is not None else None
    except MmrunError as error:
        folder_error = error
    configured = experiment.tracking.uri or (run_file.tracking_uri if run_file else None)
    return Patient(
        config_path=file,
        named=config_path is not None,
        experiment=experiment,
        config_error=config_error,
        output_dir=folder,
        run_file=run_file,
        folder_error=folder_error,
        uri=tracking_uri_given or tracking_uri(configured, project=Path.cwd()),
    )
