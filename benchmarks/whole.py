"""A whole training with a checkpoint every 5 % of its steps, with tracking and without any."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

from benchmarks.project import Size, write_project
from benchmarks.table import table
from benchmarks.training import Times, measured

TITLE = "A whole training"
SIZE = Size.of(300)
_SAVES = 20
_STEPS_BETWEEN = 80
"""Enough for more than 120 s."""
_THREADS = (1, 2)


def run(folder: Path) -> str:
    """Train without tracking and with mmrun in turn; return the table."""
    rows = [row for threads in _THREADS for row in _rows(folder, threads)]
    head = (
        "threads", "variant", "training (s)", "against `none`", "of it saving (s)",
        "CPU (s)", "start-up (s)", "drain (s)",
    )  # fmt: skip
    return (
        f"{table(head, rows)}\n\n"
        f"{SIZE.name} of state, {_SAVES} checkpoints of it. Start-up and drain are not part of the "
        "training's time."
    )


def _rows(folder: Path, threads: int) -> Sequence[Sequence[object]]:
    alone = _train(folder / "none", "none", threads=threads)
    tracked = _train(folder / "mmrun", "mmrun", threads=threads)
    return [
        (threads, f"`{name}`", times.loop, times.loop / alone.loop, *_parts(times))
        for name, times in (("none", alone), ("mmrun", tracked))
    ]


def _train(project: Path, variant: str, *, threads: int) -> Times:
    write_project(project, SIZE, steps=_STEPS_BETWEEN * _SAVES, save_every=_STEPS_BETWEEN)
    times = measured(variant, project, threads=threads)
    rmtree(project)
    return times


def _parts(times: Times) -> tuple[float, ...]:
    return sum(times.saves), times.cpu, times.start_up, times.after
