"""Where the Trainer's checkpoints go, and what several processes each add to one."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from safetensors import SafetensorError

from mmrun.errors import CheckpointError


class CheckpointSink(Protocol):
    """Where checkpoints go; the workflow hands one in."""

    def open(self, step: int) -> Path:
        """Return an empty folder for the files of ``step``."""
        ...

    def publish(
        self,
        folder: Path,
        *,
        step: int,
        epoch: float,
        metrics: Mapping[str, float],
        constant: Collection[str],
    ) -> None:
        """Make what was written to ``folder`` the checkpoint of ``step``.

        ``constant`` are the files that are the same in every checkpoint of the training.
        """
        ...


class Share(NamedTuple):
    """What differs from process to process at a checkpoint."""

    running_loss: float
    skipped: int
    """Samples that it skipped since this attempt began."""
    files: Mapping[str, bytes]
    """The file with the states of its generators, for the first process to write."""


@contextmanager
def told_as_full(folder: Path, *, step: int) -> Iterator[None]:
    """Say in words that a file could not be written; each library says it in its own way."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, RuntimeError):
            if "inline_container" not in reason:
                raise
            reason = "the disk takes no more"  # what torch says of it helps nobody
        raise CheckpointError(
            f"checkpoint {step} could not be written to {folder.parent}: {reason}",
            hint="make room on the disk, then run the same command again to go on",
        ) from error
