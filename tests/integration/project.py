"""A project folder made from the files at the repository's root, small enough for tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import RunFile, read_run_file
from mmrun.tracking.store import Run

ROOT = Path(__file__).parents[2]
OUTPUT_DIR = Path("outputs/demo")
_SCRIPTS = Path(sys.executable).parent
_SMALL = {
    "max_steps: 600": "max_steps: 20",
    "logging_steps: 10": "logging_steps: 5",
    "eval_steps: 200": "eval_steps: 10",
    "save_steps: 100": "save_steps: 10",
    "test_metadata_file: data/test.tsv": (
        "test_metadata_file: data/test.tsv\n"
        "  max_train_samples: 64\n  max_eval_samples: 8\n  max_predict_samples: 8"
    ),
}


class Project:
    """The folder, and commands that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name in ("MLproject", "dvc.yaml", "params.yaml"):
            shutil.copyfile(ROOT / name, folder / name)
        for usual, small in _SMALL.items():
            self.change(usual, small)

    def change(self, old: str, new: str) -> None:
        """Edit the experiment file."""
        file = self.folder / "params.yaml"
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is not once in params.yaml"
        file.write_text(text.replace(old, new), encoding="utf-8")

    def run(
        self, *command: str, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this Python environment, whatever its exit code."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=_outside() | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def done(self, *command: str) -> str:
        """Run a command that must succeed, and return what it said."""
        result = self.run(*command)
        assert result.returncode == 0, result.stdout
        return result.stdout

    @property
    def record(self) -> RunFile:
        """What the output folder says about its run."""
        record = read_run_file(self.folder / OUTPUT_DIR)
        assert record is not None
        return record

    @property
    def store(self) -> MlflowStore:
        """Where the project's runs are recorded."""
        return MlflowStore(f"sqlite:///{self.folder / 'mlflow.db'}")

    def trainings(self) -> list[Run]:
        """Return the runs that are trainings, newest first."""
        found = self.store.find(experiment_id=self.record.experiment_id, tags={})
        return [run for run in found if "mlflow.parentRunId" not in run.tags]

    def steps(self, run_id: str, key: str = "loss") -> list[int]:
        """Return the steps of every point of a metric, as often as they are stored."""
        return [point.step for point in self.store.history(run_id, key)]


def _outside() -> dict[str, str]:
    """Return this process's environment without what would lead a project to other runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_TRACKING", "MLFLOW_EXPERIMENT", "MLFLOW_RUN", "DVC_"))
    }
    path = os.pathsep.join([str(_SCRIPTS), kept.get("PATH", "")])
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1"}
