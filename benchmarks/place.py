"""Where a benchmark runs: the machine in words, and a folder that is gone afterwards."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psutil

FOLDER = Path("bench")
"""On the disk of the working directory: a folder for temporary files may lie in memory."""
_PACKAGES = ("torch", "transformers", "mlflow")


def machine() -> str:
    """Return what a reader must know to read the numbers."""
    memory = psutil.virtual_memory().total / 1e9
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{psutil.cpu_count()} cores ({_processor()}), {memory:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
    )


@contextmanager
def workplace() -> Iterator[Path]:
    """Yield an empty folder; it is removed at the end."""
    FOLDER.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=FOLDER)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def settle() -> None:
    """Let the disk finish what was written before, so that it does not count for what follows."""
    os.sync()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
