"""The main job on real handwriting, as `make demo` runs it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MMRUN = str(Path(sys.executable).with_name("mmrun"))
TIME_LIMIT_S = 600


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("demo") / "project"
    result = subprocess.run(
        [MMRUN, "demo", "run", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def _number(said: str, label: str) -> float:
    found = re.search(rf"{label} +([\d.]+)", said)
    assert found, said
    return float(found[1])


def test_the_training_is_killed_and_goes_on_from_its_last_checkpoint(said: str) -> None:
    assert 0 < _number(said, "resumed from step") < _number(said, "killed at step")


def test_no_point_is_there_twice(said: str) -> None:
    assert _number(said, "metric points") > 0
    assert _number(said, "duplicates") == 0


def test_the_run_is_finished_in_two_attempts(said: str) -> None:
    assert "(FINISHED, 2 attempts)" in said


def test_nine_of_ten_unseen_sequences_are_read_exactly_right(said: str) -> None:
    assert _number(said, "exact_match") >= 0.9


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    result = subprocess.run(
        [MMRUN, "demo", "run", str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
