"""Names of pretrained parts: a folder here, or a repository on the hub of Hugging Face."""

import os
import re
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from mmrun.errors import ConfigError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """What ``from_pretrained`` is called with."""

    source: str
    local_files_only: bool
    """A folder, or a name while the hub is out of reach: only what was fetched before is there."""

    @property
    def why_not(self) -> str:
        """Say why this could not be read, when it could not."""
        if Path(self.source).is_dir():
            return "the folder holds nothing that transformers can read here"
        if self.local_files_only:
            return "there is no such folder, and the hub cannot be reached from here"
        return "there is no such folder, and the hub has nothing to read under this name"


def pretrained(name: str, *, key: str) -> Pretrained:
    """Resolve the ``name`` that the experiment file gives under ``key``.

    Out of reach of the hub this takes seconds; the retries of its client would take minutes.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Pretrained(source=str(folder), local_files_only=True)
    if not _REPOSITORY.fullmatch(name):
        raise ConfigError(
            f"{key}: there is no folder {name}",
            hint="correct the path; it is relative to the folder that mmrun is started in",
        )
    return Pretrained(source=name, local_files_only=not _hub_answers())


@cache
def _hub_answers() -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PATIENCE_S).close()
    except OSError:
        return False
    return True
