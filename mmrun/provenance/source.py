"""The code and the libraries that a run was made with."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from mmrun.config.masking import hidden_lines

_LIBRARIES = ("mmrun", "torch", "transformers", "datasets", "mlflow", "numpy")
_DIFF_LIMIT = 1_000_000
_GIT_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """What ran: revision, uncommitted changes, versions, machine."""

    git_revision: str | None
    dirty: bool
    diff: str
    """Uncommitted changes of tracked files, secrets masked, cut after a megabyte."""
    versions: dict[str, str] = field(default_factory=dict)
    host: str = ""


def source_state(folder: Path | None = None) -> SourceState:
    """Describe the code in ``folder`` (default: the current one); no repository is no error."""
    folder = folder or Path.cwd()
    revision = _git(["rev-parse", "--verify", "HEAD"], folder=folder).strip() or None
    diff = _uncommitted(folder) if revision else ""
    return SourceState(
        git_revision=revision,
        dirty=bool(diff),
        diff=diff,
        versions=versions(),
        host=socket.gethostname(),
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide the outcome."""
    found = {"python": sys.version.partition(" ")[0]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> list[str]:
    """Return every installed distribution as a requirement, sorted."""
    names = {
        f"{name.lower()}=={distribution.version}"
        for distribution in distributions()
        if (name := distribution.metadata["Name"])
    }
    return sorted(names)


def _uncommitted(folder: Path) -> str:
    text = _git(["diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color"], folder=folder)
    if len(text) > _DIFF_LIMIT:
        text = f"{text[:_DIFF_LIMIT]}\n[cut: the uncommitted changes are larger than a megabyte]\n"
    return hidden_lines(text)


def _git(arguments: Sequence[str], *, folder: Path) -> str:
    """Return what git says, up to a little more than the limit; nothing where it fails."""
    try:
        with subprocess.Popen(
            ["git", "-C", str(folder), "--no-optional-locks", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as git:
            return _read(git)
    except OSError:  # no git on this machine
        return ""


def _read(git: "subprocess.Popen[bytes]") -> str:
    if git.stdout is None:
        return ""
    content = git.stdout.read(_DIFF_LIMIT + 1)
    if len(content) > _DIFF_LIMIT:
        git.kill()
        return content.decode(errors="replace")
    return content.decode(errors="replace") if git.wait(_GIT_S) == 0 else ""
