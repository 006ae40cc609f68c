"""A signal while the store hangs: the process is gone in time, and nothing is lost."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.mlflow_server import free_port, mlflow_server
from tests.recovery.project import MMRUN, Done, Project, outside

GRACE_S = 6
SLACK_S = 30.0
"""For a machine with much to do; the requests of a server that hangs would take minutes."""
TRAIN = [
    *(str(MMRUN), "train", "--config_path", "experiment.yaml", "--grace_s", str(GRACE_S)),
    *("--max_steps", "100000", "--eval_strategy", "no", "--save_strategy", "no"),
]


class Hanging:
    """A training whose server stops to answer; then it is sent signals."""

    def __init__(self, project: Project, server: Path) -> None:
        self._project = project
        self._server = server

    def stopped_by(self, *signals: signal.Signals) -> tuple[Done, float]:
        """Return how the training ended, and how long that took from the first signal on."""
        with mlflow_server(self._server, port=free_port()) as uri:
            servers = psutil.Process().children(recursive=True)
            environment = outside() | {"MLFLOW_TRACKING_URI": uri}
            with subprocess.Popen(
                TRAIN,
                cwd=self._project.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as training:
                lines = iter(training.stdout or ())
                said = []
                for line in lines:
                    said.append(line)
                    if line.startswith("step 20:"):
                        break
                for server in servers:
                    server.suspend()
                begun = time.monotonic()
                for number in signals:
                    training.send_signal(number)
                    time.sleep(2.5)
                said += lines
            took = time.monotonic() - begun
            for server in servers:
                server.resume()
            done = Done(code=training.returncode, said="".join(said))
            again = self._project.mmrun("sync", "out", MLFLOW_TRACKING_URI=uri)
            return Done(code=done.code, said=done.said + again.said), took


@pytest.fixture
def hanging(project: Project, tmp_path: Path) -> Hanging:
    project.change("  metric_for_best_model: eval_loss\n", "")
    return Hanging(project, tmp_path / "server")


def test_a_store_that_hangs_takes_no_more_than_the_grace(hanging: Hanging) -> None:
    done, took = hanging.stopped_by(signal.SIGTERM)

    assert done.code == 75, done.said
    assert took < GRACE_S + SLACK_S
    assert "no time to send everything" in done.said
    assert "stopped by SIGTERM at step" in done.said
    assert "its last attempt: stopped by SIGTERM" in done.said


def test_a_second_signal_waits_for_no_store(hanging: Hanging) -> None:
    done, took = hanging.stopped_by(signal.SIGUSR1, signal.SIGTERM)

    assert done.code == 75, done.said
    assert took < GRACE_S + SLACK_S
    assert "stopped at once by SIGTERM" in done.said
    assert "its last attempt: stopped at once" in done.said
