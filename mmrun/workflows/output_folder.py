"""The output folder of a training: whose it is, and making room for a new run."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.spool import REJECTED, Spool
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.journal import Journal
from mmrun.tracking.offline_artifacts import waiting_artifacts
from mmrun.tracking.offline_store import NAME as OFFLINE
from mmrun.tracking.run_file import NAME as RUN_FILE
from mmrun.tracking.run_file import read_run_file
from mmrun.workflows.ending import read_ending
from mmrun.workflows.records import is_record

logger = logging.getLogger(__name__)

AVERAGE = "average"
"""The mean of the last checkpoints."""
OWN = frozenset({"setup", "train", "generate", AVERAGE, "journal", "spool", OFFLINE, RUN_FILE})


def refuse_foreign(output_dir: Path) -> None:
    """Refuse a folder that holds something which is not mmrun's."""
    if not output_dir.exists() or (output_dir / RUN_FILE).exists():
        return
    if not output_dir.is_dir():
        raise UsageError(f"{output_dir} is a file", hint="give a folder with --output_dir")
    foreign = sorted(
        path.name
        for path in output_dir.iterdir()
        if path.name not in OWN and not path.name.startswith(".")
    )
    if not foreign:
        return
    hint = "give a new folder with --output_dir"
    if any(name.startswith("checkpoint-") for name in foreign):
        hint += f", and --resume_from_checkpoint {output_dir}/checkpoint-STEP to go on from there"
    raise UsageError(
        f"{output_dir} holds something else: {', '.join(foreign[:3])}"
        f"{', …' if len(foreign) > 3 else ''}",  # noqa: PLR2004 (as many as were named)
        hint=hint,
    )


def run_of_checkpoints(output_dir: Path) -> str | None:
    """Return the run that the folder's checkpoints name, when `run.json` is gone."""
    runs = {manifest.run_id for _, manifest in LocalCheckpoints(output_dir / "train").list()}
    if len(runs) > 1:
        raise UsageError(
            f"{output_dir}/train has checkpoints of several runs: {', '.join(sorted(runs))}",
            hint="say which one with --resume_from_checkpoint RUN_ID@latest --output_dir NEW",
        )
    return next(iter(runs), None)


def unsent(output_dir: Path) -> Mapping[str, int]:
    """Return how many attempts, metric points and checkpoints of this folder were never sent."""
    offline = waiting_artifacts(output_dir / OFFLINE)
    counts = {
        "attempts": sum(is_record(path) for path in offline),
        "metric points": len(Journal(output_dir / "journal", attempt=1).unsent()),
        "checkpoints": len(_spool(output_dir).waiting()),
    }
    return {what: count for what, count in counts.items() if count}


def in_words(counts: Mapping[str, int]) -> str:
    """Return ``1 metric point and 2 checkpoints``, without what there is none of."""
    return " and ".join(
        f"{count} {what.removesuffix('s') if count == 1 else what}"
        for what, count in counts.items()
        if count
    )


def clear(output_dir: Path) -> None:
    """Remove what an earlier run left here, so that nothing of it can be taken for the new one's.

    The folder's name for its run goes last: whoever dies half-way finds the old run, not a mix.
    """
    _refuse_unsent(output_dir)
    for name in ("train", "generate", AVERAGE, "journal", OFFLINE):
        shutil.rmtree(output_dir / name, ignore_errors=True)
    _clear_spool(output_dir)
    (output_dir / RUN_FILE).unlink(missing_ok=True)


def _refuse_unsent(output_dir: Path) -> None:
    if waiting := unsent(output_dir):
        raise TrackingError(
            f"{output_dir} still holds {in_words(waiting)} of the run before that were not sent",
            hint=f"send them with 'mmrun sync {output_dir}', or use another --output_dir",
        )
    if read_ending(output_dir / "journal") is not None:
        raise TrackingError(
            f"{output_dir} still holds how the run before ended, which its server was not told",
            hint=f"tell it with 'mmrun sync {output_dir}', or use another --output_dir",
        )
    if foreign := _spool(output_dir).foreign():
        raise TrackingError(
            f"{foreign[0]} was not sent, and is of a version of mmrun that this one cannot read",
            hint=f"'mmrun sync {output_dir}' of that version, or use another --output_dir",
        )


def _clear_spool(output_dir: Path) -> None:
    """Remove the spool but for what other runs left there: nobody else has it, perhaps."""
    folder, run_id = output_dir / "spool", _run_here(output_dir)
    others = [path for path in _folders(folder) if run_id and path.name not in (run_id, REJECTED)]
    for path in others:
        if Spool(folder, run_id=path.name).waiting():
            logger.warning(
                "%s stays: it was not sent, and is of another run; moved into the spool of that "
                "run's output folder, 'mmrun sync' sends it",
                path,
            )
    for path in _folders(folder):
        if path not in others:
            shutil.rmtree(path, ignore_errors=True)
    if not others:
        shutil.rmtree(folder, ignore_errors=True)


def _spool(output_dir: Path) -> Spool:
    """Return what waits here for the folder's run; what is of other ones, no command here sends."""
    return Spool(output_dir / "spool", run_id=_run_here(output_dir))


def _run_here(output_dir: Path) -> str | None:
    run_file = read_run_file(output_dir)
    return None if run_file is None else run_file.run_id


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
