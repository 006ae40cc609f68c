"""How long the training thread is held up per checkpoint, beside the usual ways to track one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median

from benchmarks.project import SMALL, Size, write_project
from benchmarks.table import table
from benchmarks.training import VARIANTS, Times, measured

TITLE = "How long a checkpoint holds up training"
_THREADS = 1


@dataclass(frozen=True, kw_only=True)
class Case:
    """A size, and how many steps lie between two checkpoints of it."""

    size: Size
    save_every: int
    saves: int


CASES = (
    Case(size=SMALL, save_every=200, saves=6),
    Case(size=Size.of(300), save_every=10, saves=6),
    Case(size=Size.of(1500), save_every=6, saves=5),
)


def run(folder: Path) -> str:
    """Measure every size with every variant; return the table."""
    rows = [row for case in CASES for row in _rows(folder / case.size.name, case)]
    head = (
        "state", "variant", "held up (median s)", "beyond `none`", "longest", "mmrun's own part",
    )  # fmt: skip
    return (
        f"{table(head, rows)}\n\n"
        f"{_THREADS} thread. `none` is the Trainer's own save. The last column is the metric "
        "`mmrun/checkpoint_stall_s`: everything but the writing of the files."
    )


def _rows(folder: Path, case: Case) -> Sequence[Sequence[object]]:
    every: dict[str, Times] = {}
    for variant in VARIANTS:
        project = folder / variant
        write_project(
            project,
            case.size,
            steps=case.save_every * case.saves,
            save_every=case.save_every,
            log_every=10_000,
        )
        every[variant] = measured(variant, project, threads=_THREADS)
        rmtree(project)
    alone = median(every["none"].saves)
    return [
        (
            case.size.name,
            f"`{variant}`",
            median(times.saves),
            median(times.saves) - alone,
            max(times.saves),
            f"{1000 * median(times.handing_over):.1f} ms" if times.handing_over else "",
        )
        for variant, times in every.items()
    ]
