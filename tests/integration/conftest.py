"""A project in which runs are trained in this process; its database outlives a test."""

import gc
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.integration.attempts import Lab, write_experiment
from tests.integration.runs import Runs


@pytest.fixture(scope="session")
def project_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_experiment(folder)
    return folder


@pytest.fixture
def here(
    project_of_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Runs]:
    """The project, without output folders."""
    monkeypatch.chdir(project_of_runs)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    for path in project_of_runs.glob("out*"):
        shutil.rmtree(path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Runs(project_of_runs, capsys)
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="module")
def light_machine() -> Iterator[None]:
    """Let nine steps of a tiny model take a third of a second, whatever else runs here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # the Trainer collects garbage each time it begins
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, light_machine: None) -> Lab:
    """A small training, of which attempts are made in this process."""
    return Lab(tmp_path_factory.mktemp("lab"))
