"""A real ``mlflow server`` on a loopback port, which can die and come back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.ports import free_port

__all__ = ["MlflowServer", "free_port", "mlflow_server"]

_START_S = 60


class MlflowServer:
    """A server that keeps its log, and what is not said to be elsewhere, in ``folder``."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        backend: str | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare it; without ``options`` it passes artifacts on to and from the folder."""
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._backend = backend or f"sqlite:///{folder}/server.db"
        self._options = options or ("--artifacts-destination", str(folder / "served"))
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Let it answer, until ``stop`` or ``kill``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        stored = ("--backend-store-uri", self._backend)
        log_file = self._folder / "server.log"
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *where, *stored, *self._options],
                cwd=self._folder,
                env={**_environment(), **self._environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _wait(self._process, self.uri, log=log_file)

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None

    def stop(self) -> None:
        """Ask it to end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Let it die, with what it was doing."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)  # what answers is a child of the command
            self._process.wait(timeout=_START_S)
            self._process = None


@contextmanager
def mlflow_server(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """Run a server that keeps everything in ``folder``; yield its URI."""
    server = MlflowServer(folder, port=port)
    server.start()
    try:
        yield server.uri
    finally:
        server.stop()


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "_MLFLOW"))}
    return {
        **kept,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _wait(server: "subprocess.Popen[bytes]", uri: str, *, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(f"{uri}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
