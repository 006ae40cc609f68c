"""A project folder made from the files at the repository's root, small enough for tests."""

import os
import shutil
import signal
import subprocess
import sys
from functools import reduce
from operator import getitem
from pathlib import Path

from ruamel.yaml import YAML

from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import RunFile, read_run_file
from mmrun.tracking.store import Run

ROOT = Path(__file__).parents[2]
OUTPUT_DIR = Path("outputs/demo")
_SCRIPTS = Path(sys.executable).parent
_SMALL = {
    "model.backbone_config.d_model": 32,
    "model.backbone_config.encoder_ffn_dim": 32,
    "model.backbone_config.decoder_ffn_dim": 32,
    "training.max_steps": 20,
    "training.per_device_train_batch_size": 8,
    "training.learning_rate": 0.001,
    "training.logging_steps": 5,
    "training.eval_steps": 10,
    "training.save_steps": 10,
    "data.max_train_samples": 64,
    "data.max_eval_samples": 8,
    "data.max_predict_samples": 8,
}


class Project:
    """The folder, and commands that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for name in ("MLproject", "dvc.yaml", "params.yaml"):
            shutil.copyfile(ROOT / name, folder / name)
        self.change(**_SMALL)

    def change(self, **values: float) -> None:
        """Set keys of the experiment file, each as ``section.key``."""
        file = self.folder / "params.yaml"
        yaml = YAML()
        tree = yaml.load(file.read_text(encoding="utf-8"))
        for name, value in values.items():
            *sections, key = name.split(".")
            reduce(getitem, sections, tree)[key] = value
        with file.open("w", encoding="utf-8") as stream:
            yaml.dump(tree, stream)

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

    def interrupt(self, *command: str, at: str) -> str:
        """Run a command, send it alone a SIGTERM at the first line that begins with ``at``.

        Returns what was said until every process that it started has ended, too.
        """
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=_outside(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if line.startswith(at) and process.poll() is None:
                    process.terminate()
        assert process.returncode == -signal.SIGTERM, "".join(said)
        return "".join(said)

    def kill_all(self, *command: str, at: str) -> str:
        """Run a command, and kill it with all that it started at the line that begins so."""
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=_outside(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if line.startswith(at) and process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "".join(said)
        return "".join(said)

    def done(self, *command: str) -> str:
        """Run a command that must succeed, and return what it said."""
        result = self.run(*command)
        assert result.returncode == 0, result.stdout
        return result.stdout

    def start_git(self) -> None:
        """Make the folder a repository in which DVC can run experiments."""
        ignored = ("mlflow.db*", "mlartifacts/")  # as at the root of this repository
        (self.folder / ".gitignore").write_text("".join(f"/{name}\n" for name in ignored), "utf-8")
        self.done("git", "init", "--quiet")

    def commit(self, subject: str) -> None:
        """Commit everything there is."""
        who = ("-c", "user.name=Tester", "-c", "user.email=tester@localhost")
        self.done("git", "add", "--all")
        self.done("git", *who, "commit", "--quiet", "-m", subject)

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

    def runs(self) -> list[Run]:
        """Return the runs beside and including the folder's, without children, newest first."""
        found = self.store.find(experiment_id=self.record.experiment_id, tags={})
        return [run for run in found if "mlflow.parentRunId" not in run.tags]

    @property
    def training(self) -> Run:
        """The run of the output folder."""
        return self.store.read(self.record.run_id)

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
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
