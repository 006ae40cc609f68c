"""Short runs of a small experiment, through the command line in this process."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmrun.cli.main import run as mmrun
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import read_run_file

TWO_STEPS = "2"
TWO_PROCESSES = {
    "RANK": "0",
    "LOCAL_RANK": "0",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
}
"""What `torchrun` says to the first of two; a plan asks no other for anything."""


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    text: str


class Runs:
    """A project with one database, in which runs of two steps are trained."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def train(self, out: str, *options: str, steps: str = TWO_STEPS) -> Said:
        words = ["--config_path", "experiment.yaml", "--setup_path", "setup"]
        code = mmrun(["train", *words, "--output_dir", out, "--max_steps", steps, *options])
        captured = self._capsys.readouterr()
        return Said(code, captured.out + captured.err)

    def trained(self, out: str, *options: str, steps: str = TWO_STEPS) -> str:
        """Train, which must succeed, and return the folder's run."""
        said = self.train(out, *options, steps=steps)
        assert said.code == 0, said.text
        return self.run_of(out)

    def run_of(self, out: str) -> str:
        found = read_run_file(self.folder / out)
        assert found is not None
        return found.run_id

    def statuses(self) -> Mapping[str, str]:
        """Return the status of every run of the project."""
        if not (self.folder / "mlflow.db").exists():
            return {}
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            return dict(database.execute("SELECT run_uuid, status FROM runs"))

    def tags(self, run_id: str) -> Mapping[str, str]:
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            query = "SELECT key, value FROM tags WHERE run_uuid = ?"
            return dict(database.execute(query, [run_id]))

    def artifact(self, run_id: str, path: str) -> str:
        place = self.folder / "mlartifacts" / run_id / "artifacts" / path
        return place.read_text(encoding="utf-8")

    def steps_of(self, run_id: str, key: str = "loss") -> list[int]:
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            query = "SELECT step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
            return [step for (step,) in database.execute(query, [run_id, key])]

    def active(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            query = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'"
            return [run_id for (run_id,) in database.execute(query)]

    @property
    def store(self) -> MlflowStore:
        return MlflowStore(f"sqlite:///{self.folder / 'mlflow.db'}")

    def saved(self, out: str) -> list[int]:
        names = (path.name for path in (self.folder / out / "train").glob("checkpoint-*[0-9]"))
        return sorted(int(name.removeprefix("checkpoint-")) for name in names)
