"""The table of what the stock parts do and what mmrun does: a test stands behind every row."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADING = "## What the stock parts do, and what mmrun does\n"
ROWS_AT_LEAST = 16
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row below the table's head."""
    page = (ROOT / "docs/resume.md").read_text(encoding="utf-8")
    section = page.partition(HEADING)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0])
def test_a_test_stands_behind_each_row(cells: list[str]) -> None:
    what, stock, ours, held_by = cells

    named = TEST.findall(held_by)

    assert all((what, stock, ours))
    assert named
    assert [(file, name) for file, name in named if name not in functions_of(ROOT / file)] == []


def test_every_row_is_there() -> None:
    assert len(rows()) >= ROWS_AT_LEAST


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
