"""The output folder of a training: whose it is, and making room for a new run."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.errors import TrackingError, UsageError
from mmrun.tracking.journal import Journal
from mmrun.tracking.offline_store import NAME as OFFLINE
from mmrun.tracking.offline_store import waiting_artifacts
from mmrun.tracking.run_file import NAME as RUN_FILE

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
        "attempts": sum(path.startswith("attempts/") for path in offline),
        "metric points": len(Journal(output_dir / "journal", attempt=1).unsent()),
        "checkpoints": len(Spool(output_dir / "spool").waiting()),
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
    waiting = unsent(output_dir)
    if waiting:
        raise TrackingError(
            f"{output_dir} still holds {in_words(waiting)} of the run before that were not sent",
            hint=f"send them with 'mmrun sync {output_dir}', or use another --output_dir",
        )
    for name in ("train", "generate", AVERAGE, "spool", "journal", OFFLINE):
        shutil.rmtree(output_dir / name, ignore_errors=True)
    (output_dir / RUN_FILE).unlink(missing_ok=True)
