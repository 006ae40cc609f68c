"""Signals that arrive while the command line itself is not there yet."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

SENT = {"SIGTERM": 75, "SIGUSR1": 75, "SIGINT": 130}
IMPORTING = """
import signal, sys
class Slow:
    def find_spec(self, name, *rest):
        if name == "typer":
            signal.raise_signal(signal.{name})
sys.meta_path.insert(0, Slow())
from mmrun.cli.main import main
sys.argv = ["mmrun", "train"]
main()
"""
WORKING = """
import signal, sys
from mmrun.cli import early, running
import typer
app = typer.Typer()
@app.callback()
def group(): ...
@app.command()
def train():
    try:
        signal.raise_signal(signal.{name})
    finally:
        print("cleaned up")
running.app = app
sys.argv = ["mmrun", "train"]
from mmrun.cli.main import main
main()
"""
OVER = """
import signal
from mmrun.cli.early import Signals
signals = Signals.listening()
signals.decide(5)
signals.said()
signal.raise_signal(signal.{name})
"""
SAYING = """
import signal, sys
from mmrun.cli import running
from mmrun.errors import ConfigError
import typer
app = typer.Typer()
class Wrong(ConfigError):
    def __str__(self):
        signal.raise_signal(signal.{name})
        return "it is wrong"
@app.callback()
def group(): ...
@app.command()
def train():
    raise Wrong("", hint="look")
running.app = app
sys.argv = ["mmrun", "train"]
from mmrun.cli.main import main
main()
"""


def ended(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )


def words(name: str) -> Sequence[str]:
    what = "Ctrl-C" if name == "SIGINT" else name
    return [f"stopped by {what}", "  try: run the same command again"]


@pytest.mark.parametrize("name", SENT)
def test_while_python_imports_a_signal_is_an_exit_code_with_words(name: str) -> None:
    done = ended(IMPORTING.replace("{name}", name))

    assert done.returncode == SENT[name]
    assert done.stderr.splitlines() == words(name)


def test_of_several_processes_one_says_it() -> None:
    done = ended(IMPORTING.replace("{name}", "SIGTERM"), RANK="1")

    assert (done.returncode, done.stderr) == (75, "")


@pytest.mark.parametrize("name", SENT)
def test_a_command_that_works_can_clean_up(name: str) -> None:
    done = ended(WORKING.replace("{name}", name))

    assert done.returncode == SENT[name]
    assert done.stderr.splitlines() == words(name)
    assert done.stdout == "cleaned up\n"


@pytest.mark.parametrize("name", SENT)
def test_when_all_is_over_the_exit_code_stands(name: str) -> None:
    assert ended(OVER.replace("{name}", name)).returncode == 5


@pytest.mark.parametrize("name", SENT)
def test_what_is_being_said_is_said_to_its_end(name: str) -> None:
    done = ended(SAYING.replace("{name}", name))

    assert done.returncode == 3
    assert done.stderr.splitlines() == ["error: it is wrong", "  try: look"]
