"""Moments at which a test can kill a process."""

import signal
import subprocess
import sys

import pytest

from mmrun import faults

SAVE = """
from mmrun.faults import reach
for step in (10, 20):
    reach("checkpoint.saved", step=step)
    reach("checkpoint.renamed", step=step)
    print(step, flush=True)
reach("end")
"""


ORDERED = """
import threading
from mmrun.faults import reach
thread = threading.Thread(target=lambda: (print("other", flush=True), reach("sent", step=5)))
thread.start()
reach("step", step=6)
print("step", flush=True)
"""


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param("sent@5,step@6", id="one waits for the other and dies"),
        pytest.param("sent@5!,step@6", id="one waits for the other to die"),
    ],
)
def test_moments_of_threads_can_be_put_in_order(wanted: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", ORDERED],
        env={"MMRUN_KILL_AT": wanted},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == -signal.SIGKILL
    assert finished.stdout.split() == ["other"]


@pytest.mark.parametrize(
    ("wanted", "printed"),
    [
        pytest.param("checkpoint.saved@20", ["10"], id="a moment of a step"),
        pytest.param("checkpoint.renamed", [], id="the first time"),
        pytest.param("end", ["10", "20"], id="without a step"),
    ],
)
def test_the_process_dies_at_its_moment(wanted: str, printed: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", SAVE],
        env={"MMRUN_KILL_AT": wanted},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == -signal.SIGKILL
    assert finished.stdout.split() == printed


@pytest.mark.parametrize("wanted", [None, "upload.files", "checkpoint.saved@30"])
def test_at_every_other_moment_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    monkeypatch.delenv("MMRUN_KILL_AT", raising=False)
    if wanted is not None:
        monkeypatch.setenv("MMRUN_KILL_AT", wanted)

    faults.reach("checkpoint.saved", step=10)
    faults.reach("checkpoint.saved")
