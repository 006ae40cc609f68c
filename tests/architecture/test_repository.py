"""What every file of the repository must be."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 500_000


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def test_no_file_is_large() -> None:
    large = [path.name for path in _tracked() if path.stat().st_size > LARGEST_BYTES]

    assert large == []


def test_no_file_has_merge_markers() -> None:
    markers = ("<" * 7 + " ", ">" * 7 + " ")

    marked = [
        path.name
        for path in _tracked()
        if any(line.startswith(markers) for line in _text(path).splitlines())
    ]

    assert marked == []


def test_toml_files_are_well_formed() -> None:
    for path in _tracked():
        if path.suffix == ".toml":
            tomllib.loads(_text(path))


def test_yaml_files_are_well_formed() -> None:
    for path in _tracked():
        if path.suffix in {".yaml", ".yml", ".cff"} or path.name == "MLproject":
            YAML(typ="safe").load(_text(path))


def test_every_dependency_has_an_exact_version() -> None:
    lines = _text(ROOT / "constraints.txt").splitlines()

    loose = [line for line in lines if line and not line.startswith("#") and "==" not in line]

    assert loose == []


@pytest.mark.parametrize("extra", ["all", "demo", "dev"])
def test_make_installs_only_extras_that_exist(extra: str) -> None:
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]

    assert extra in project["optional-dependencies"]
    assert extra in _text(ROOT / "Makefile")


def test_all_brings_every_modality() -> None:
    project = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]
    (everything,) = project["optional-dependencies"]["all"]
    names = everything.removeprefix("mmrun[").removesuffix("]").split(",")

    assert set(names) >= project["entry-points"]["mmrun.modalities"].keys()
    assert set(names) <= project["optional-dependencies"].keys()


def test_what_trying_mmrun_leaves_is_ignored() -> None:
    left = ["demo/x", "data/x", "outputs/x", "mlartifacts/x", "mlflow.db", ".venv/x"]

    ignored = subprocess.run(
        ["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert ignored.split() == left
