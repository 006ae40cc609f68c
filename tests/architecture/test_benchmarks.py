"""The benchmarks: all can be run, and each has its results on the page that the README names."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.table import table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", NAMES)
def test_each_benchmark_has_its_table_on_the_page(name: str) -> None:
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert f"## {importlib.import_module(f'benchmarks.{name}').TITLE}\n" in page


def test_every_module_that_measures_is_run() -> None:
    measuring = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "\nTITLE = " in path.read_text(encoding="utf-8")
    }
    assert measuring == set(NAMES)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "stal"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "'stal' is none of: stall, whole" in done.stderr


def test_a_table_is_markdown_with_numbers_to_the_right() -> None:
    assert table(["what", "s"], [("a", 0.5), ("`b`", 123.456)]) == (
        "| what |     s |\n| ---- | ----: |\n| a    | 0.500 |\n| `b`  | 123.5 |"
    )
