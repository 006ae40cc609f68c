"""Breaks a training from inside, at the moment when it opens a certain file.

`sitecustomize` is imported by every Python; an audit hook of it sees each file that is opened, also
in loader workers, which are forked.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CODE = """\
import json, os, signal, sys

_todo = json.loads(os.environ.get("BREAKS", "[]"))

def _is_within(function):
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != function:
        frame = frame.f_back
    return frame is not None

def _look(event, arguments):
    if event == "open" and _todo:
        moment = _todo[0]
        if moment["opening"] in str(arguments[0]) and _is_within(moment["within"]):
            del _todo[0]
            exec(moment["do"])

if _todo:
    sys.addaudithook(_look)
"""


@dataclass(frozen=True, kw_only=True)
class Break:
    """What is done when a file is opened, once; several come one after the other."""

    opening: str
    """A part of the file's path."""
    do: str
    """Python."""
    within: str
    """A function that is under way."""


def sending(name: str, *, opening: str, within: str) -> Break:
    """Let the process be sent a signal."""
    return Break(opening=opening, do=f"os.kill(os.getpid(), signal.{name})", within=within)


def environment(folder: Path, breaks: Sequence[Break]) -> dict[str, str]:
    """Return what a command needs in its environment to be broken."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(CODE, encoding="utf-8")
    return {"PYTHONPATH": str(folder), "BREAKS": json.dumps([asdict(one) for one in breaks])}
