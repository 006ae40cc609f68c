"""One run that was left alone and one that was killed; every test begins with a copy of them."""

import shutil
from pathlib import Path

import pytest

from tests.recovery.project import Project, write_small_data


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "data"
    write_small_data(folder)
    return folder


@pytest.fixture(scope="session")
def alone_at(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train to the end without any interruption; return the folder and a copy of it."""
    base = tmp_path_factory.mktemp("alone")
    project = Project(base / "project")
    project.write(small_data)
    project.train_to_the_end()
    project.keep(base / "copy")
    return project.folder, base / "copy"


@pytest.fixture(scope="session")
def killed_at(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train until a SIGKILL at step 20, in the middle of an epoch; return folder and copy."""
    base = tmp_path_factory.mktemp("killed")
    project = Project(base / "project")
    project.write(small_data)
    # Uploads are not waited for by the training, so it waits for each of them here.
    project.train_until(
        "upload.manifest@6,step@7,upload.manifest@12,step@13,upload.manifest@18,step@20"
    )
    shutil.rmtree(project.out / "spool")  # the kill may have come before the last link was removed
    project.keep(base / "copy")
    return project.folder, base / "copy"


@pytest.fixture(scope="session")
def alone(alone_at: tuple[Path, Path]) -> Project:
    """The run that was left alone, to compare with."""
    return Project(alone_at[1])


@pytest.fixture
def finished(alone_at: tuple[Path, Path]) -> Project:
    """A finished run, to do something with."""
    folder, copy = alone_at
    project = Project(folder)
    project.restore(copy)
    return project


@pytest.fixture
def killed(killed_at: tuple[Path, Path]) -> Project:
    """A run that was killed at step 20; its checkpoints are of the steps 6, 12 and 18."""
    folder, copy = killed_at
    project = Project(folder)
    project.restore(copy)
    return project


@pytest.fixture
def project(small_data: Path, tmp_path: Path) -> Project:
    """A folder in which nothing was trained yet."""
    project = Project(tmp_path / "project")
    project.write(small_data)
    return project


@pytest.fixture(scope="session")
def frozen_at(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train a model whose backbone is frozen, so that checkpoints share a file."""
    base = tmp_path_factory.mktemp("frozen")
    project = Project(base / "project")
    project.write(small_data)
    project.change("  feat_dim: 64\n", "  feat_dim: 64\n  freeze_backbone: true\n")
    project.train_to_the_end()
    project.keep(base / "copy")
    return project.folder, base / "copy"


@pytest.fixture(scope="session")
def frozen_alone(frozen_at: tuple[Path, Path]) -> Project:
    """The run with the frozen backbone that was left alone, to compare with."""
    return Project(frozen_at[1])


@pytest.fixture
def frozen(frozen_at: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Project:
    """A finished run; its checkpoints here are of steps 6, 12, 18, 23, in the store the last 3."""
    folder, copy = frozen_at
    project = Project(folder)
    project.restore(copy)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project
