"""How long it takes from the command to the first step of a resumed training."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from statistics import median

from mlflow import MlflowClient

from benchmarks.place import settle
from benchmarks.project import MMRUN, SMALL, Size, mmrun, outside, write_project
from benchmarks.table import table
from tests.mlflow_server import mlflow_server

TITLE = "From the command to the first resumed step"
_SIZES = (SMALL, Size.of(300))
_ROUNDS = 7
_SAVED = 4
"""The step that is resumed from."""
_STEPS = 1000
"""More than is ever done: each training is killed after its first step."""
_PLACES = ("on disk", "in the store")
_DIGESTS = re.compile(r"mmrun/verify_s ([\d.e-]+)")
_ROOT = Path(__file__).parents[1]

Rounds = list[tuple["Trial", "Trial"]]
"""The stock script's trial and mmrun's, by round."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A command that resumes, and how one sees that it has done a step."""

    command: Sequence[str | Path]
    environment: Mapping[str, str]
    step_done: str
    """What the line begins with that is said after each step."""
    checkpoints: Path


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One resume, up to its first step."""

    seconds: float
    processor: float
    """Seconds of all threads together, which other work on the machine hardly changes."""
    said: str

    @property
    def digests(self) -> float:
        """How long mmrun compared checkpoint and data with their digests, beside other work."""
        return sum(float(found) for found in _DIGESTS.findall(self.said))


def run(folder: Path) -> str:
    """Resume with both in turn, from this disk and from the store; return the table."""
    rows = [
        _row(size, store, place, rounds)
        for size in _SIZES
        for store, uri in _stores(folder / size.name)
        for place, rounds in _measured(folder / size.name / store, size, uri=uri).items()
    ]
    head = (
        "state", "tracking store", "checkpoint", "stock (s)", "mmrun (s)", "mmrun / stock",
        "range", "of processor time", "digests (s)",
    )  # fmt: skip
    return (
        f"{table(head, rows)}\n\n"
        f"Medians of {_ROUNDS} rounds in turn, 1 thread, from the start of the process until it "
        "says that the first step is done. The server is a real `mlflow server`. Digests are "
        "`mmrun/verify_s`: the stock script verifies nothing, mmrun does it while it imports."
    )


def _stores(folder: Path) -> Iterator[tuple[str, str]]:
    folder.mkdir()
    yield "SQLite", f"sqlite:///{folder}/mlflow.db"
    with mlflow_server(folder / "served") as uri:
        yield "server", uri


def _row(size: Size, store: str, place: str, rounds: Rounds) -> Sequence[object]:
    stock, tracked = zip(*rounds, strict=True)
    ratios = [mine.seconds / theirs.seconds for theirs, mine in rounds]
    return (
        size.name,
        store,
        place,
        median(trial.seconds for trial in stock),
        median(trial.seconds for trial in tracked),
        median(ratios),
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        median(mine.processor / theirs.processor for theirs, mine in rounds),
        median(trial.digests for trial in tracked),
    )


def _measured(project: Path, size: Size, *, uri: str) -> Mapping[str, Rounds]:
    write_project(project, size, steps=_STEPS, save_every=_SAVED, log_every=1)
    tracked, stock = _tracked(project, uri=uri), _stock(project, uri=uri)
    measured: dict[str, Rounds] = {place: [] for place in _PLACES}
    for turn in range(-1, _ROUNDS):  # the first one only fills the disk's cache
        for place, rounds in measured.items():
            if turn % 2:
                theirs, mine = (_resumed(one, project, place=place) for one in (stock, tracked))
            else:
                mine, theirs = (_resumed(one, project, place=place) for one in (tracked, stock))
            if turn >= 0:
                rounds.append((theirs, mine))
    return measured


def _tracked(project: Path, *, uri: str) -> Contestant:
    """Train with mmrun to the first checkpoint, which is then in the store, too."""
    words = ("train", "--config_path", "experiment.yaml")
    mmrun(project, f"{' '.join(words)} --max_steps {_SAVED}", uri=uri)
    return Contestant(
        command=(MMRUN, *words),
        environment={"MLFLOW_TRACKING_URI": uri},
        step_done=f"step {_SAVED + 1}: loss",
        checkpoints=project / "out/train",
    )


def _stock(project: Path, *, uri: str) -> Contestant:
    """Train with the stock script until it has a checkpoint, and put that into the store."""
    client = MlflowClient(uri)
    run_file = json.loads((project / "out/run.json").read_text(encoding="utf-8"))
    run_id = client.create_run(run_file["experiment_id"]).info.run_id
    name = f"checkpoint-{_SAVED}"
    script = (sys.executable, "-u", "-m", "benchmarks.stock")
    contestant = Contestant(
        command=(*script, name),
        environment={
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_RUN_ID": run_id,
            "PYTHONPATH": str(_ROOT),
        },
        step_done="{'loss'",
        checkpoints=project / "stock",
    )
    _until_step(replace(contestant, command=script), project, count=_SAVED + 1)
    client.log_artifacts(run_id, str(contestant.checkpoints / name), name)
    return contestant


def _resumed(one: Contestant, project: Path, *, place: str) -> Trial:
    if place == "in the store":
        rmtree(one.checkpoints)
    settle()
    return _until_step(one, project)


def _until_step(one: Contestant, project: Path, *, count: int = 1) -> Trial:
    """Run the command, and kill it when it has done so many steps."""
    said = []
    before, begun = _processor(), time.perf_counter()
    with subprocess.Popen(
        one.command,
        cwd=project,
        env={**outside(), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **one.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            count -= line.startswith(one.step_done)
            if count == 0:
                break
        seconds = time.perf_counter() - begun
        process.kill()
    if count:
        raise RuntimeError(f"it ended before its step was done:\n{''.join(said)}")
    return Trial(seconds=seconds, processor=_processor() - before, said="".join(said))


def _processor() -> float:
    """Return the processor time of the processes that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system
