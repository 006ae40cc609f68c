"""Tracking URIs: which one counts, and made absolute; no I/O."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

_SQLITE = re.compile(r"^(sqlite(?:\+\w+)?:///)([^?]*)(.*)$", re.DOTALL)


def tracking_uri(configured: str | None, *, project: Path) -> str:
    """Return the URI that counts: MLFLOW_TRACKING_URI, the configured one, the embedded default.

    A relative SQLite path is made absolute: the environment's from the current folder, the
    others from ``project``.
    """
    if from_environment := os.environ.get("MLFLOW_TRACKING_URI"):
        return absolute(from_environment, folder=Path.cwd())
    return absolute(configured or "sqlite:///mlflow.db", folder=project)


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI; None for every other kind, and for a database in memory."""
    match = _SQLITE.match(uri)
    if match is None or match[2] in {"", ":memory:"}:
        return None
    return Path(match[2])


def with_sqlite_file(uri: str, file: Path) -> str:
    """Return a SQLite URI with another file."""
    return _SQLITE.sub(lambda match: f"{match[1]}{file}{match[3]}", uri)


def is_database(uri: str) -> bool:
    """Return whether a URI is that of a database server, without an MLflow server before it."""
    kind = urlsplit(uri).scheme.partition("+")[0]
    return kind in {"postgresql", "mysql", "mssql"}


def split_login(uri: str) -> tuple[str, str | None, str | None]:
    """Return an HTTP URI without its login, and the login's name and password."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return uri, None, None
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(name), unquote(password)


def absolute(uri: str, *, folder: Path) -> str:
    """Return the URI with the file of a SQLite one absolute, from ``folder``."""
    file = sqlite_file(uri)
    if file is None or file.is_absolute():
        return uri
    return with_sqlite_file(uri, (folder / file).resolve())
