"""A real ``mlflow server`` on a loopback port, with proxied artifacts."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

_START_S = 60


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """Run a server that keeps everything in ``folder``; yield its URI."""
    port = port or free_port()
    uri = f"http://127.0.0.1:{port}"
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "--backend-store-uri": f"sqlite:///{folder}/server.db",
        "--artifacts-destination": str(folder / "served"),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
    }
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *_flat(arguments)],
            cwd=folder,
            env=_environment(),
            stdout=log,
            stderr=log,
        )
    try:
        _wait(server, uri, log=folder / "server.log")
        yield uri
    finally:
        server.terminate()
        server.wait(timeout=_START_S)


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "_MLFLOW"))}
    return {
        **kept,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def _flat(arguments: dict[str, str]) -> list[str]:
    return [word for pair in arguments.items() for word in pair]


def _wait(server: "subprocess.Popen[bytes]", uri: str, *, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if requests.get(f"{uri}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
