"""A training in the background, whose lines can be waited for."""

import signal
import subprocess
import threading

from tests.recovery.project import MMRUN, Done, Project, outside


class Training:
    """A training that runs; what it says is read all the time, so that it never waits for that."""

    def __init__(self, project: Project, *options: str, **environment: str) -> None:
        self._process = subprocess.Popen(
            [MMRUN, "train", "--config_path", "experiment.yaml", *options],
            cwd=project.folder,
            env=outside() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, beginning: str) -> None:
        """Return once it has said a line that begins so, which it must do."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._has(beginning))
        assert self._has(beginning), f"it never said {beginning!r}: {''.join(self._said)}"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> Done:
        """Wait for its end."""
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        return Done(code=self._process.returncode, said="".join(self._said))

    def _has(self, beginning: str) -> bool:
        return any(line.startswith(beginning) for line in self._said)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._said.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
