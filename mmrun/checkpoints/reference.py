"""How a user points at a checkpoint: ``latest``, ``best``, ``500``, ``RUN@500``, a URI, a path."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from mmrun.checkpoints.entry import parse_name
from mmrun.errors import UsageError

Which = Literal["latest", "best"] | int
FORMS = "latest, best, a step, RUN_ID, RUN_ID@latest|best|STEP|STEP.aATTEMPT, runs:/…, or a folder"

_LINKS: Mapping[str, str] = {"checkpoint-last": "latest", "checkpoint-best": "best"}
"""The links beside the checkpoints; their names work where they do not lie, too."""
_RUN = re.compile(r"[0-9a-f]{32}")
_STEP = re.compile(r"(\d+)(?:\.a([1-9]\d*))?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_STORED = re.compile(r"(?:^|/)([0-9a-f]{32})/(?:artifacts/)?checkpoints/([^/]+)/?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a user's words mean. ``run_id`` None is the run at hand."""

    text: str
    which: Which | None = None
    """None only together with ``path`` or ``uri``."""
    run_id: str | None = None
    attempt: int | None = None
    name: str | None = None
    """The folder in the store, where an address names it: it is that one, superseded or not."""
    path: Path | None = None
    uri: str | None = None

    @property
    def named(self) -> bool:
        """Whether exactly one checkpoint is meant, so that no other one will do instead."""
        return self.which not in ("latest", "best")

    def of_run(self, run_id: str) -> "Reference":
        """Return the same with the run in words, as it can be given anywhere."""
        return replace(self, run_id=run_id, text=f"{run_id}@{self.text}")


LATEST = Reference(text="latest", which="latest")


def parse(text: str) -> Reference | None:
    """Say what ``text`` points at; ``false`` and the empty string point at nothing (None)."""
    words = text.strip()
    if words.lower() in {"", "false"}:
        return None
    if words.lower() == "true":
        words = "latest"
    if _URI.match(words):
        return _from_uri(words)
    run_id, _, which = words.partition("@")
    if _RUN.fullmatch(run_id):
        return _in_run(which or "latest", text=words, run_id=run_id)
    if words in _LINKS and Path(words).exists():
        return _from_path(words)
    return _meant(words, text=words, run_id=None) or _from_path(words)


def _in_run(which: str, *, text: str, run_id: str) -> Reference:
    reference = _meant(which, text=text, run_id=run_id)
    if reference is None:
        raise UsageError(
            f"{text!r} points at no checkpoint: {which!r} is neither latest, best nor a step",
            hint=f"write {run_id}@latest, …@best, …@500 or …@500.a1",
        )
    return reference


def _meant(which: str, *, text: str, run_id: str | None) -> Reference | None:
    match _LINKS.get(which, which):
        case "latest":
            return Reference(text=text, which="latest", run_id=run_id)
        case "best":
            return Reference(text=text, which="best", run_id=run_id)
    step = _STEP.fullmatch(which)
    if step is None:
        return None
    attempt = int(step[2]) if step[2] else None
    return Reference(text=text, which=int(step[1]), run_id=run_id, attempt=attempt)


def _from_uri(uri: str) -> Reference:
    parts = urlsplit(uri)
    stored = _STORED.search(parts.path)
    if stored and (name := parse_name(stored[2])):
        step, attempt = name
        return Reference(text=uri, which=step, run_id=stored[1], attempt=attempt, name=stored[2])
    if parts.scheme == "file":
        return Reference(text=uri, path=Path(unquote(parts.path)))
    run_id = parts.path.strip("/")
    if parts.scheme == "runs" and _RUN.fullmatch(run_id):
        return Reference(text=uri, which="latest", run_id=run_id)
    if parts.scheme == "runs":
        raise UsageError(
            f"{uri!r} points at no checkpoint",
            hint="write runs:/RUN_ID/checkpoints/checkpoint-STEP",
        )
    return Reference(text=uri, uri=uri)


def _from_path(words: str) -> Reference:
    path = Path(words).expanduser()
    meant = "/" in words or words.startswith((".", "~")) or parse_name(words) is not None
    if meant or path.exists():
        return Reference(text=words, path=path)
    raise UsageError(f"{words!r} points at no checkpoint", hint=f"write {FORMS}")
