"""The batch script of the examples, with stand-ins that behave as Slurm does, until it is done."""

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.recovery.project import MMRUN, Done, Project, assert_one_run_like, outside

SCRIPT = Path(__file__).parents[2] / "examples/slurm.sh"
STARTS_AT_MOST = 6
SRUN = """\
#!/bin/bash
# Starts the step; at the first line that begins with $SIGNAL_AT it is signalled, as $SIGNAL says.
mkfifo "$STATE/said"
"$@" > "$STATE/said" 2>&1 &
step=$!
while IFS= read -r line; do
    echo "$line"
    if [ -n "$SIGNAL" ] && [[ $line == "$SIGNAL_AT"* ]]; then
        kill -s "$SIGNAL" "$step"
        if [ -n "$CANCELS" ]; then kill -s TERM "$PPID"; fi
        SIGNAL=
    fi
done < "$STATE/said"
rm "$STATE/said"
wait "$step"
"""
SCONTROL = """\
#!/bin/bash
[ "$1" = requeue ] && echo "$2" >> "$STATE/requeued"
"""


@dataclass
class Slurm:
    """A queue of one job."""

    project: Project
    folder: Path

    def __post_init__(self) -> None:
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            program = self.folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text, encoding="utf-8")
            program.chmod(0o755)

    @property
    def requeued(self) -> int:
        """How often the job has asked for it."""
        queue = self.folder / "requeued"
        return len(queue.read_text(encoding="utf-8").splitlines()) if queue.exists() else 0

    def start(self, number: signal.Signals | None, *, at: str, cancels: bool = False) -> Done:
        """Run the script once; its step is sent a signal at a line of the training."""
        path = os.pathsep.join([str(self.folder / "bin"), str(MMRUN.parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", str(SCRIPT), "experiment.yaml"],
            cwd=self.project.folder,
            env=outside()
            | {
                "PATH": path,
                "STATE": str(self.folder),
                "SIGNAL": "" if number is None else number.name.removeprefix("SIG"),
                "SIGNAL_AT": at,
                "CANCELS": "yes" if cancels else "",
                "SLURM_JOB_ID": "17",
                "SLURM_JOB_NAME": "experiment",
                "OUTPUT_DIR": "out",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Done(code=done.returncode, said=done.stdout)


@pytest.fixture
def slurm(project: Project, tmp_path: Path) -> Slurm:
    folder = tmp_path / "slurm"
    folder.mkdir()
    return Slurm(project, folder)


def test_a_job_that_is_over_queues_itself_until_the_run_is_done(
    slurm: Slurm, project: Project, alone: Project
) -> None:
    starts: list[Done] = []
    while slurm.requeued == len(starts) < STARTS_AT_MOST:
        number = signal.SIGUSR1 if len(starts) < 2 else None
        starts.append(slurm.start(number, at="step "))

    assert [start.code for start in starts] == [75, 75, 0], starts
    assert (slurm.folder / "requeued").read_text(encoding="utf-8").split() == ["17", "17"]
    assert_one_run_like(project, alone)
    assert [project.attempt(k)["ended"] for k in (1, 2, 3)] == [
        "stopped by SIGUSR1",
        "stopped by SIGUSR1",
        "finished",
    ]


def test_a_job_that_is_cancelled_stays_away(slurm: Slurm, project: Project) -> None:
    done = slurm.start(signal.SIGTERM, at="step ", cancels=True)

    assert done.code == 75, done.said
    assert slurm.requeued == 0
    assert project.run.status == "KILLED"


def test_a_job_that_fails_stays_away(slurm: Slurm, project: Project) -> None:
    project.change("  max_steps: 23\n", "  max_steps: soon\n")

    done = slurm.start(None, at="")

    assert done.code == 3, done.said
    assert slurm.requeued == 0
