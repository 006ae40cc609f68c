"""A process is told when the wrapper that started it dies, and only then."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CHILD = """
import signal, sys
from mmrun.tracking import orphan
def told(*_):
    signal.signal(orphan.SIGNAL, signal.SIG_IGN)  # it may come twice, from kernel and watcher
    sys.exit("told")
signal.signal(orphan.SIGNAL, told)
orphan.stop_with_wrapper()
print("ready", flush=True)
signal.sigtimedwait([signal.SIGALRM], {seconds})
print("alone", flush=True)
"""


def _said_after_the_wrapper_is_killed(
    folder: Path, *, name: str, before: str = "", seconds: float
) -> str:
    """Kill a program called ``name`` that runs a child in a shell; return what the child says."""
    child = shlex.join([sys.executable, "-c", CHILD.format(seconds=seconds)])
    script = folder / name
    script.write_text(
        f"import subprocess\nsubprocess.run(['bash', '-c', {before + child!r}])\n", "utf-8"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as wrapper:
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline() == "ready\n"
        wrapper.kill()
        return wrapper.stdout.read().strip()


@pytest.mark.parametrize("before", ["", "true && "], ids=["child", "grandchild"])
@pytest.mark.parametrize("name", ["mlflow", "dvc"])
def test_the_end_of_a_wrapper_is_told(tmp_path: Path, name: str, before: str) -> None:
    said = _said_after_the_wrapper_is_killed(tmp_path, name=name, before=before, seconds=30)

    assert said == "told"


def test_the_end_of_any_other_parent_is_not(tmp_path: Path) -> None:
    assert _said_after_the_wrapper_is_killed(tmp_path, name="nohup", seconds=0.5) == "alone"
