"""Two processes that `torchrun` started: one run, whichever of them dies or is stopped."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.recovery.project import MMRUN, Done, Project, assert_one_run_like, outside

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--no-python"]
TRAIN = ["train", "--config_path", "experiment.yaml"]
ONLY_IN = '[ "$RANK" = "$0" ] || unset MMRUN_KILL_AT; exec "$@"'
"""A shell's command: one of the processes gets the moment to die at."""


def command(*arguments: str, dying: int = 0) -> Sequence[str]:
    return [*TORCHRUN, "sh", "-c", ONLY_IN, str(dying), str(MMRUN), *arguments]


def in_two(project: Project, *arguments: str, dying: int = 0, **environment: str) -> Done:
    """Run a command in two processes; the exit code is torchrun's, which makes 1 of any other."""
    return project.command(command(*arguments, dying=dying), **environment)


@pytest.fixture(scope="session")
def two_alone(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run of two processes that was left alone, to compare with."""
    project = Project(tmp_path_factory.mktemp("two") / "project")
    project.write(small_data)
    done = in_two(project, *TRAIN)
    assert done.code == 0, done.said
    return project


@pytest.mark.parametrize(
    ("process", "moment"),
    [
        pytest.param(1, "step@20", id="the one that only computes"),
        pytest.param(0, "checkpoint.manifest@18", id="the one that saves, while it does"),
    ],
)
def test_a_kill_of_one_process_ends_both_and_the_same_command_goes_on(
    project: Project, two_alone: Project, process: int, moment: str
) -> None:
    killed = in_two(project, *TRAIN, dying=process, MMRUN_KILL_AT=moment)
    resumed = in_two(project, *TRAIN)

    assert f"rank: {process}" in killed.said
    assert "(SIGKILL)" in killed.said
    assert resumed.code == 0, resumed.said
    assert_one_run_like(project, two_alone)


def test_a_process_that_dies_before_the_first_step_leaves_nobody_waiting(project: Project) -> None:
    killed = in_two(project, *TRAIN, MMRUN_KILL_AT="run.created")

    assert killed.code == 1
    assert project.run.status == "RUNNING"
    assert not [p for p in psutil.process_iter() if _works_in(p, project.folder)]


def test_a_signal_to_one_process_stops_both_with_a_last_checkpoint(
    project: Project, two_alone: Project
) -> None:
    with subprocess.Popen(
        command(*TRAIN),
        cwd=project.folder,
        env=outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as torchrun:
        said = []
        for line in torchrun.stdout or ():
            said.append(line)
            if line.startswith("step 10:"):
                second = max(psutil.Process(torchrun.pid).children(), key=lambda p: p.pid)
                second.send_signal(signal.SIGTERM)
    resumed = in_two(project, *TRAIN)

    assert "".join(said).count("stopped by SIGTERM at step") == 1
    assert "exitcode  : 75 " in "".join(said)
    assert resumed.code == 0, resumed.said
    assert project.attempt(1)["ended"] == "stopped by SIGTERM"
    assert project.attempt(1)["processes"] == 2
    assert_one_run_like(project, two_alone)


@pytest.mark.parametrize(
    ("arguments", "line", "code"),
    [
        pytest.param(
            [*TRAIN, "--metric_for_best_model", "bleu"],
            "error: training.metric_for_best_model: 'bleu' is never computed",
            3,
            id="of every process",
        ),
        pytest.param(
            ["generate", "--config_path", "experiment.yaml"],
            "error: mmrun generate works in one process, and 2 were started",
            2,
            id="a command for one process",
        ),
    ],
)
def test_an_error_is_said_once(
    project: Project, arguments: list[str], line: str, code: int
) -> None:
    done = in_two(project, *arguments)

    own = [text for text in done.said.splitlines() if text.startswith(("error:", "  try:"))]
    assert own[0] == line
    assert len(own) == 2
    assert f"exitcode  : {code} " in done.said


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder)
    except psutil.Error:
        return False
