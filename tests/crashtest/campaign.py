"""Trainings that are killed at random, resumed, and compared with one that was left alone."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from mmrun.tracking.offline_store import unknown_run, waits
from mmrun.tracking.run_file import read_run_file
from tests.crashtest.differences import differences
from tests.crashtest.kills import OFFLINE, Kill, Shape, draw
from tests.recovery.project import MMRUN, Done, Project, outside, write_small_data

EXPERIMENT = Path(__file__).with_name("experiment.yaml")
SAVE_EVERY, EVAL_EVERY = 7, 4
_MOST = 5
"""Interruptions of one run."""
_LONGEST_S = 300.0
_CODES = {"SIGKILL": -signal.SIGKILL, "SIGTERM": 75, "SIGINT": 130}
"""How a training ends that a signal stopped."""


class Campaign:
    """Runs in folders below one; ``say`` gets a line for each kill and each run."""

    def __init__(self, folder: Path, *, seed: int, say: Callable[[str], None]) -> None:
        """Train once without any interruption."""
        self._folder = folder
        self._chance = random.Random(seed)
        self._say = say
        self.kills = 0
        self.runs = 0
        write_small_data(folder / "data")
        self.alone = self._project("alone")
        _finish(self.alone)
        self._shape = Shape(
            steps=last_step(self.alone), save_every=SAVE_EVERY, eval_every=EVAL_EVERY
        )
        say(f"left alone: {self._shape.steps} steps, {len(self.alone.history)} points")

    def go_on(self, wanted: int) -> list[str]:
        """Kill ``wanted`` times or a few more; return what differed in the first run that did."""
        while self.kills < wanted:
            self.runs += 1
            project = self._project(f"run-{self.runs}")
            kills = self._interrupt(project)
            _finish(project)
            if odd := differences(project, self.alone, step=self._shape.steps):
                return [f"run {self.runs} differs; it lies in {project.folder}", *odd]
            self._say(f"run {self.runs}: {kills} kills, and as if it had been left alone")
            shutil.rmtree(project.folder)
        return []

    def _project(self, name: str) -> Project:
        project = Project(self._folder / name)
        project.folder.mkdir()
        shutil.copyfile(EXPERIMENT, project.folder / "experiment.yaml")
        shutil.copytree(self._folder / "data", project.folder / "data")
        return project

    def _interrupt(self, project: Project) -> int:
        """Kill until it was enough, or the training came to its end; return how often."""
        kills = 0
        for number in range(self._chance.randint(1, _MOST)):
            offline = self._chance.random() < OFFLINE and _needs_no_server(project)
            tells = waits(project.out) and not offline
            kill = draw(self._chance, self._shape, first=number == 0, tells=tells)
            done = _train(project, kill, offline=offline)
            if done.code == 0:
                break
            if done.code != _CODES[kill.signal]:
                raise RuntimeError(f"{kill}: exit code {done.code}\n{done.said}")
            kills += 1
            self.kills += 1
            mode = "offline, " if offline else ""
            self._say(f"kill {self.kills}: run {self.runs}, {mode}{_from(done)}{kill}")
            _lose(project, kill)
        return kills


def _needs_no_server(project: Project) -> bool:
    """Whether the folder has what an attempt begins with."""
    if read_run_file(project.out) is None:
        return not _which_run(project)
    saved = (project.out / "train").glob("checkpoint-[0-9]*")
    return unknown_run(project.out) is not None or any(saved)


def _train(project: Project, kill: Kill, *, offline: bool) -> Done:
    """Train until the kill, or to the end where it comes too late."""
    named = {"MMRUN_KILL_AT": kill.moment} if kill.moment else {}
    options = ["--offline"] if offline else []
    log = project.folder / "said.txt"
    # Into a file: the loader's workers outlive a killed process for some seconds, and a pipe
    # would stay open as long.
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [MMRUN, "train", "--config_path", "experiment.yaml", *options],
            cwd=project.folder,
            env=outside() | named | _which_run(project),
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    if kill.moment is None:
        _strike(process, kill, log=log)
    try:
        process.wait(_LONGEST_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        process.wait()
    return Done(code=process.returncode, said=log.read_text(encoding="utf-8"))


def _strike(process: "subprocess.Popen[bytes]", kill: Kill, *, log: Path) -> None:
    """Send the signal when its time has come, if the process still runs then."""
    while process.poll() is None and f"\n{kill.line}" not in f"\n{log.read_text('utf-8')}":
        time.sleep(0.02)
    time.sleep(kill.after_s)
    if process.poll() is None:
        process.send_signal(signal.Signals[kill.signal])


def _which_run(project: Project) -> dict[str, str]:
    """Tell a machine with an empty disk which run it is to go on with."""
    if read_run_file(project.out) is not None or not (project.folder / "mlflow.db").exists():
        return {}
    known = [run.run_id for run in project.runs() if "mmrun.format" in run.tags]
    return {"MLFLOW_RUN_ID": known[0]} if known else {}


def _lose(project: Project, kill: Kill) -> None:
    """Take away what the next attempt shall not find."""
    if read_run_file(project.out) is None or waits(project.out):
        return  # there is no run yet that another machine could know of, or not all of it
    if kill.then == "another machine":
        shutil.rmtree(project.out)
    elif kill.then == "no local checkpoints":
        shutil.rmtree(project.out / "train", ignore_errors=True)


def _finish(project: Project) -> None:
    """Train to the end without a kill, and translate with the best checkpoint."""
    for command in ("train", "generate"):
        done = project.mmrun(command, "--config_path", "experiment.yaml", **_which_run(project))
        if done.code:
            raise RuntimeError(f"mmrun {command}: exit code {done.code}\n{done.said}")


def _from(done: Done) -> str:
    """Return from which step the attempt went on, if it came so far."""
    begun = [line for line in done.said.splitlines() if ", from step " in line]
    return f"from step {begun[0].rpartition(' ')[2]}, " if begun else ""


def last_step(project: Project) -> int:
    """Return the step of the newest checkpoint here."""
    return int((project.out / "train/checkpoint-last").readlink().name.removeprefix("checkpoint-"))
