"""Checkpoints from somebody else: nothing in them is run, and no path in them is followed."""

import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mmrun.cli.main import run as mmrun
from tests.recovery.damage import cut, seal
from tests.recovery.project import Project


class Code:
    """An object that makes the file ``ran`` when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return (open, ("ran", "w"))


def as_torch_does(path: Path) -> None:
    content = torch.load(path, weights_only=False)
    torch.save({"before": content, "state": Code()}, path)


def as_a_bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code()))


@pytest.fixture
def foreign(frozen: Project) -> Path:
    """A checkpoint of the run in a folder of its own, where anybody could have changed it."""
    assert mmrun(["checkpoints", "pull", "23", "foreign", "--output_dir", "out"]) == 0
    return frozen.folder / "foreign"


FROM_IT = ("--max_steps", "30", "--resume_from_checkpoint", "foreign")
COMMANDS = {
    "train": ["train", "--config_path", "experiment.yaml", "--dry-run", *FROM_IT],
    "pull": ["checkpoints", "pull", "foreign", "taken"],
}


def told(text: str) -> tuple[str, str]:
    """Return the two lines that say what is wrong and what to do."""
    lines = text.splitlines()
    two = [line for line in lines if line.startswith(("error: ", "  try: "))]
    assert len(two) == 2, text
    assert two == lines[-2:]
    return two[0], two[1]


def refused_untouched(project: Project) -> tuple[str, str]:
    """Try to go on from the changed checkpoint; the run must stay as it is."""
    before, kept = project.run, set(project.out.rglob("*"))

    done = project.train(*FROM_IT)

    assert done.code == 5, done.said
    assert without_lease(project.run.tags) == without_lease(before.tags)
    assert (project.run.status, set(project.out.rglob("*"))) == (before.status, kept)
    return told(done.said)


def without_lease(tags: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in tags.items() if not name.startswith("mmrun.lease.")}


@pytest.mark.parametrize(
    ("name", "put"),
    [
        pytest.param("optimizer.pt", as_torch_does, id="optimizer"),
        pytest.param("rng_state.pth", as_torch_does, id="generators"),
        pytest.param("scheduler.pt", as_torch_does, id="schedule"),
        pytest.param("scheduler.pt", as_a_bare_pickle, id="a bare pickle"),
    ],
)
def test_code_in_a_file_is_not_run(
    frozen: Project, foreign: Path, name: str, put: Callable[[Path], None]
) -> None:
    put(foreign / name)
    seal(foreign)

    error, hint = refused_untouched(frozen)

    assert f"foreign/{name} holds more than plain data, so it is not read" in error
    assert "resume from a checkpoint that a training wrote" in hint
    assert not (frozen.folder / "ran").exists()


def test_a_file_that_was_cut_is_not_said_to_hold_code(frozen: Project, foreign: Path) -> None:
    cut(foreign / "scheduler.pt")
    seal(foreign)

    error, hint = refused_untouched(frozen)

    assert "foreign/scheduler.pt is cut or damaged" in error
    assert "resume from another checkpoint" in hint


def renamed_in_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Change a name in the pickle of a file that torch wrote."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert any(old in content for content in members.values())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(old, new) if "data.pkl" in name else content)


def test_generators_of_an_older_numpy_are_told_in_words(foreign: Path, frozen: Project) -> None:
    states = foreign / "rng_state.pth"
    renamed_in_pickle(states, b"numpy._core.multiarray", b"numpy.core.multiarray")
    seal(foreign, versions={**versions_in(foreign), "numpy": "1.26.4"})

    error, hint = refused_untouched(frozen)

    assert "foreign/rng_state.pth cannot be read here: it was written with numpy 1.26.4" in error
    assert "pip install numpy==1.26.4" in hint


def test_generators_of_another_torch_are_told_in_words(foreign: Path, frozen: Project) -> None:
    states = torch.load(foreign / "rng_state.pth", weights_only=False)
    torch.save({**states, "cpu": torch.zeros(7, dtype=torch.uint8)}, foreign / "rng_state.pth")
    seal(foreign, versions={**versions_in(foreign), "torch": "1.0.0"})

    error, hint = refused_untouched(frozen)

    assert "foreign/rng_state.pth cannot be read here: it was written with torch 1.0.0" in error
    assert "pip install torch==1.0.0" in hint


def versions_in(folder: Path) -> Mapping[str, str]:
    versions: dict[str, str] = json.loads((folder / "manifest.json").read_text())["versions"]
    return versions


def to_a_file_of_another(folder: Path) -> None:
    (folder / "trainer_state.json").rename(folder.parent / "elsewhere.json")
    (folder / "trainer_state.json").symlink_to(folder.parent / "elsewhere.json")


def to_a_folder_of_another(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent / "data")


def with_path(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        files = json.loads((folder / "manifest.json").read_text())["files"]
        seal(folder, files=[{**files[0], "path": path}, *files[1:]])

    return change


def with_more(folder: Path) -> None:
    (folder / "training_args.bin").write_bytes(pickle.dumps(Code()))


def without_a_seal(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"step": 23', '"step": 22'))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(with_path("/etc/hostname"), "not a plain relative path", id="absolute"),
        pytest.param(with_path("../data/train.tsv"), "not a plain relative path", id="parent"),
        pytest.param(to_a_file_of_another, "trainer_state.json is a link", id="link to a file"),
        pytest.param(to_a_folder_of_another, "more is a link", id="link to a folder"),
        pytest.param(without_a_seal, "manifest.json is damaged", id="changed and not sealed"),
        pytest.param(with_more, "training_args.bin does not belong to it", id="one file more"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_does_not_fit_its_manifest_is_refused(
    foreign: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    change: Callable[[Path], None],
    reason: str,
) -> None:
    change(foreign)

    assert mmrun(COMMANDS[command]) == 5

    assert reason in told(capsys.readouterr().err)[0]
    assert not Path("taken").exists()
    assert not Path("ran").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_another_format_is_refused_with_the_way_out(
    foreign: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    seal(foreign, format=7)

    assert mmrun(COMMANDS[command]) == 5

    error, hint = told(capsys.readouterr().err)
    assert "foreign is not whole: manifest.json has format 7, this mmrun reads 1 and 2" in error
    assert "use the version of mmrun that wrote the checkpoint" in hint
