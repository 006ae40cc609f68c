"""A small experiment in a folder of its own, driven through the installed command line."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mmrun.tracking.attempts import is_timing
from mmrun.workflows.demo_data import write_demo_data

MMRUN = Path(sys.executable).with_name("mmrun")
STEPS = 23
ROWS = {"train": 84, "validation": 16}
"""10.5 batches of 8: an epoch is 11 steps, and its last batch is a half one."""

EXPERIMENT = """\
data:
  dataset_type: features2text
  train_metadata_file: data/train.tsv
  validation_metadata_file: data/validation.tsv
processor:
  pipeline: features2text
model:
  backbone_type: m2m_100
  backbone_config:
    d_model: 32
    encoder_layers: 2
    decoder_layers: 2
    encoder_ffn_dim: 64
    decoder_ffn_dim: 64
    encoder_attention_heads: 2
    decoder_attention_heads: 2
    dropout: 0.1
  feat_dim: 64
  max_length: 32
training:
  output_dir: out
  max_steps: 23
  per_device_train_batch_size: 8
  per_device_eval_batch_size: 16
  learning_rate: 0.001
  lr_scheduler_type: constant
  logging_steps: 5
  eval_strategy: steps
  eval_steps: 4
  save_strategy: steps
  save_steps: 6
  metric_for_best_model: eval_loss
  seed: 7
tracking:
  keep_last: 3
"""
"""Saving every 6, evaluating every 4, logging every 5 steps: each falls between the others."""

History = Mapping[tuple[str, int], float]


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    said: str


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run as the database has it."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]


class Project:
    """A folder with an experiment file, data, and in time MLflow's database and an output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"

    def write(self, data: Path) -> None:
        """Fill the folder: the experiment file, and a copy of ``data``."""
        self.folder.mkdir(parents=True)
        (self.folder / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
        shutil.copytree(data, self.folder / "data")

    def change(self, old: str, new: str) -> None:
        """Edit the experiment file."""
        file = self.folder / "experiment.yaml"
        text = file.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} is not once in the experiment file"
        file.write_text(text.replace(old, new), encoding="utf-8")

    # Commands

    def train(self, *options: str, **environment: str) -> Done:
        """Run ``mmrun train`` with the experiment file, whatever its exit code."""
        return self.mmrun("train", "--config_path", "experiment.yaml", *options, **environment)

    def train_to_the_end(self, *options: str) -> str:
        """Run ``mmrun train``, which must succeed; return what it said."""
        done = self.train(*options)
        assert done.code == 0, done.said
        return done.said

    def train_until(self, moment: str, *options: str, **environment: str) -> str:
        """Run ``mmrun train`` and have it killed at ``moment``."""
        done = self.train(*options, MMRUN_KILL_AT=moment, **environment)
        assert done.code == -signal.SIGKILL, f"it was not killed at {moment}: {done.said}"
        return done.said

    def mmrun(self, *arguments: str, **environment: str) -> Done:
        """Run a command of the installed command line."""
        return self.command([str(MMRUN), *arguments], **environment)

    def command(self, words: Sequence[str], **environment: str) -> Done:
        """Run any program in the folder, whatever its exit code."""
        finished = subprocess.run(
            words,
            cwd=self.folder,
            env=outside() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Done(code=finished.returncode, said=finished.stdout)

    def train_and_send(
        self,
        number: signal.Signals,
        *,
        at_line: str,
        options: Sequence[str] = (),
        to_all: bool = False,
        **environment: str,
    ) -> Done:
        """Run ``mmrun train`` and send a signal as soon as a line of its begins so.

        ``to_all`` of its processes, as a scheduler and a terminal do.
        """
        with subprocess.Popen(
            [MMRUN, "train", "--config_path", "experiment.yaml", *options],
            cwd=self.folder,
            env=outside() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=to_all,
        ) as process:
            said = []
            for line in process.stdout or ():
                said.append(line)
                if line.startswith(at_line) and to_all:
                    os.killpg(process.pid, number)
                elif line.startswith(at_line):
                    process.send_signal(number)
        return Done(code=process.returncode, said="".join(said))

    # The folder as a whole

    def keep(self, copy: Path) -> None:
        """Put a copy of the folder aside."""
        shutil.copytree(self.folder, copy, symlinks=True)

    def restore(self, copy: Path) -> None:
        """Make the folder what it was; at the same place, which MLflow's database names."""
        shutil.rmtree(self.folder)
        shutil.copytree(copy, self.folder, symlinks=True)

    def forget_local_checkpoints(self) -> None:
        """Remove the output folder's checkpoints, as the user of a full disk does."""
        shutil.rmtree(self.out / "train")

    # What is recorded

    def runs(self) -> Sequence[RunRow]:
        """Return every run of the database that is not deleted."""
        rows = self._rows("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'")
        return [
            RunRow(
                run_id=run_id,
                status=status,
                tags=dict(self._rows("SELECT key, value FROM tags WHERE run_uuid = ?", run_id)),
                params=dict(self._rows("SELECT key, value FROM params WHERE run_uuid = ?", run_id)),
            )
            for run_id, status in rows
        ]

    @property
    def run(self) -> RunRow:
        """The training's run; there must be exactly one, beside those of `mmrun generate`."""
        (run,) = [run for run in self.runs() if "mlflow.parentRunId" not in run.tags]
        return run

    @property
    def description(self) -> str:
        """What MLflow's page shows of the run as its description."""
        return self.run.tags["mlflow.note.content"]

    @property
    def points(self) -> Sequence[tuple[str, int, float]]:
        """Every metric point of the database, as often as it is stored."""
        return self._rows("SELECT key, step, value FROM metrics ORDER BY key, step")

    @property
    def history(self) -> History:
        """The metrics' values, timing aside; no key and step may be there twice."""
        twice = self.logged_twice()
        assert not twice, f"logged more than once: {twice}"
        return {(key, step): value for key, step, value in self.points if not is_timing(key)}

    def logged_twice(self) -> Sequence[tuple[str, int]]:
        """Return the metrics and steps that have more than one point."""
        counted = Counter((key, step) for key, step, _ in self.points)
        return [place for place, number in counted.items() if number > 1]

    def artifact(self, path: str) -> Path:
        """Return where the run's artifact lies."""
        return self.folder / "mlartifacts" / self.run.run_id / "artifacts" / path

    def attempt(self, number: int) -> Mapping[str, Any]:
        """Return the record of an attempt."""
        text = self.artifact(f"attempts/{number}.json").read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text)
        return content

    def weights(self, step: int) -> Mapping[str, torch.Tensor]:
        """Return the weights of a checkpoint in the output folder."""
        files = (self.out / f"train/checkpoint-{step}").glob("*.safetensors")
        return {name: tensor for file in files for name, tensor in load_file(file).items()}

    def _rows(self, query: str, *values: str) -> list[Any]:
        # Read beside MLflow: what counts is what is stored, not what a client makes of it. Not
        # read-only, so that the journal of a writer that was killed can be rolled back.
        database = f"file:{self.folder / 'mlflow.db'}?mode=rw"
        with closing(sqlite3.connect(database, uri=True)) as connection:
            return connection.execute(query, values).fetchall()


def outside() -> dict[str, str]:
    """Return this process's environment without what would lead a project to other runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLFLOW_", "DVC_", "MMRUN_", "COV_"))
    }
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def write_small_data(folder: Path) -> None:
    """Write the first rows of the demo's data, as features."""
    whole = folder.with_name("whole")
    write_demo_data(whole)
    for split, rows in ROWS.items():
        lines = (whole / f"{split}.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / split).mkdir(parents=True)
        (folder / f"{split}.tsv").write_text("".join(lines[: rows + 1]), encoding="utf-8")
        for line in lines[1 : rows + 1]:
            signal_file = line.partition("\t")[0]
            shutil.copyfile(whole / signal_file, folder / signal_file)


def assert_one_run_like(project: Project, alone: Project, *, step: int = STEPS) -> None:
    """Compare a run that was interrupted with one that was left alone."""
    assert project.run.status == "FINISHED"
    assert project.run.tags["mmrun.status"] == "finished"
    assert "mmrun.replay" not in project.run.tags
    assert project.history == alone.history
    mine, theirs = project.weights(step), alone.weights(step)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
