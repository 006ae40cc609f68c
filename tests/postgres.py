"""A real PostgreSQL of the test's own, on a loopback port, which can die and come back."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.ports import free_port

USER = "ann"
_START_S = 60
_FAST = {"fsync": "off", "full_page_writes": "off"}
"""The machine does not lose power within a test."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
}


class Postgres:
    """A database server; ``password`` is its user's."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._settings = _SETTINGS if durable else {**_FAST, **_SETTINGS}
        self.port = free_port()
        self.password = f"pass-{secrets.token_hex(8)}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0
        self.newest = ""
        """The database that was made last."""

    def make(self) -> None:
        """Write the files of a new server."""
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")  # it refuses to be root
        password = self._folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        words = ["--username", USER, "--pwfile", str(password), "--auth", "scram-sha-256"]
        subprocess.run(
            [_program("initdb"), "--no-sync", *words, str(self._folder / "data")],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._anybody(),
        )

    def start(self) -> None:
        """Let it answer, until ``kill``; the port and what is stored stay the same."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _program("postgres"),
                    *("-D", str(self._folder / "data"), "-p", str(self.port)),
                    *settings,
                ],
                stdout=log,
                stderr=log,
                **self._anybody(),
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.uri("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    log_text = (self._folder / "server.log").read_text()
                    raise RuntimeError(f"PostgreSQL did not start:\n{log_text}") from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """Stop it at once, with every connection; it recovers at the next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # SIGKILL would leave its children behind
            self._process.wait(timeout=_START_S)
            self._process = None

    def new_database(self) -> str:
        """Make an empty database, and return its name."""
        self._made += 1
        name = f"runs_{self._made}"
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        self.newest = name
        return name

    def uri(self, database: str) -> str:
        """Return the address of a database, the password in it."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def rows(self, database: str, query: str, *values: object) -> list[Any]:
        """Return what the database holds, whatever a client would make of it."""
        with psycopg.connect(self.uri(database)) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def dump(self, database: str) -> bytes:
        """Return everything that the database holds, as text."""
        return subprocess.run(
            [_program("pg_dump"), "--dbname", self.uri(database)], check=True, capture_output=True
        ).stdout

    def _anybody(self) -> dict[str, Any]:
        """Return what makes a program run as somebody who is not root, in the folder."""
        if os.geteuid() != 0:
            return {"cwd": self._folder}
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
        return {"cwd": self._folder, **who}


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """Run a new server; what it stores goes away with it; till then it may be ``durable``."""
    # Not in pytest's folder, which other users than this one cannot enter.
    with tempfile.TemporaryDirectory(prefix="mmrun-postgres-") as folder:
        server = Postgres(Path(folder), durable=durable)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _program(name: str) -> str:
    """Return where a program of PostgreSQL is; Debian keeps the server's off the path."""
    places = [str(path.parent) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    found = shutil.which(name) or shutil.which(name, path=max(places, default=""))
    if found is None:
        raise RuntimeError(
            f"these tests start a PostgreSQL of their own, and there is no {name!r}: "
            "apt-get install postgresql (or: make test ARGS=\"-m 'not server and not gpu'\")"
        )
    return found
