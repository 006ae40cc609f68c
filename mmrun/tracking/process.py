"""Which process is this, and does another one still live."""

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process, told apart from a later one that got the same number."""

    host: str
    pid: int
    started: str | None
    """When it started, in the kernel's ticks; None where the system does not say."""
    boot: str | None
    """The boot and the process name space that the number belongs to; None where unknown."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> ProcessId:
    """Return the identity of this process."""
    return process_of(os.getpid())


def process_of(pid: int) -> ProcessId:
    """Return the identity of a process of this machine."""
    return ProcessId(host=socket.gethostname(), pid=pid, started=_stat(pid)[1], boot=_boot())


def age_s() -> float | None:
    """Return how long this process has lived; None where the system does not say."""
    started = _stat(os.getpid())[1]
    if started is None:
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")


def is_alive(process: ProcessId) -> bool | None:
    """Tell whether ``process`` lives; None if that cannot be known from here."""
    if (process.host, process.boot) != (socket.gethostname(), _boot()):
        return None
    state, started = _stat(process.pid)
    if state is not None:
        return state not in {"Z", "X"} and started == process.started
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return None  # without /proc it may be a later process of the same number


def _stat(pid: int) -> tuple[str | None, str | None]:
    """Return the state and the start time of a process, as far as the system shows them."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None, None
    # The second field is the name in parentheses and may hold blanks; the state comes after it.
    fields = stat.rpartition(")")[2].split()
    return fields[0], fields[19]


def _boot() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None
