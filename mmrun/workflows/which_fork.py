"""Which checkpoint a fork begins with, and whether it has begun already: decisions, no I/O."""

from dataclasses import dataclass
from pathlib import Path

from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.reference import LATEST, Reference, parse
from mmrun.errors import UsageError
from mmrun.tracking.store import Run
from mmrun.workflows.which_run import Claims

FORKED_TAG = "mmrun.forked_from"
"""RUN@STEP, for people and searches."""
STARTED_TAG = "mmrun.started_from"
"""RUN@STEP.a<k>: that very checkpoint, whatever became of its run since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The checkpoint of another run that a fork begins with."""

    reference: Reference
    run_id: str
    step: int | None
    attempt: int | None
    """Both None for the newest or the best, which may be another one tomorrow."""

    @classmethod
    def of(cls, reference: Reference, *, run_id: str, manifest: Manifest | None = None) -> "Origin":
        """Return what ``reference`` means; ``manifest`` is that of a folder."""
        step = reference.which if isinstance(reference.which, int) else None
        return cls(
            reference=reference,
            run_id=run_id,
            step=step if manifest is None else manifest.step,
            attempt=reference.attempt if manifest is None else manifest.attempt,
        )

    @property
    def checkpoint(self) -> str | None:
        """That very checkpoint in words; None where it is not known yet which one it is."""
        known = self.step is not None and self.attempt is not None
        return f"{self.run_id}@{self.step}.a{self.attempt}" if known else None

    def fits(self, other: "Origin") -> bool:
        """Whether ``other``, which is one checkpoint, may be what is meant here."""
        same_step = self.step in {None, other.step}
        return self.run_id == other.run_id and same_step and self.attempt in {None, other.attempt}


def origin_of(run: Run) -> Origin | None:
    """Return what a run was forked from; None for one that was not."""
    reference = parse(run.tags.get(STARTED_TAG, "")) if FORKED_TAG in run.tags else None
    if reference is None or reference.run_id is None:
        return None
    return Origin.of(reference, run_id=reference.run_id)


def origin_asked(
    reference: Reference | None, claims: Claims, *, manifest: Manifest | None = None
) -> Origin:
    """Return what a fork is asked for; ``MLFLOW_RUN_ID`` completes a reference without a run.

    Args:
        reference: ``--resume_from_checkpoint``; without one the newest checkpoint is meant.
        claims: What points at a run.
        manifest: That of the folder which ``reference`` names.

    Raises:
        UsageError: nothing says what to begin with, or two runs are meant.
    """
    run_id = claims.reference or claims.environment
    if run_id is None:
        raise UsageError(
            "--fork needs a checkpoint of a run to begin with",
            hint="add --resume_from_checkpoint RUN_ID@latest, or leave --fork out",
        )
    if claims.environment not in {None, run_id, claims.folder}:
        raise UsageError(
            f"two runs are meant: --resume_from_checkpoint is of run {run_id}, MLFLOW_RUN_ID is "
            f"of run {claims.environment}",
            hint="unset MLFLOW_RUN_ID, or leave --fork out to go on with that run",
        )
    meant = reference or LATEST
    return Origin.of(
        meant if meant.path or meant.run_id else meant.of_run(run_id),
        run_id=run_id,
        manifest=manifest,
    )


def refuse_other(run: Run, *, asked: Origin, folder: Path) -> None:
    """Refuse a folder whose run is another one than the fork that is asked for.

    Raises:
        UsageError: there is no place for a fork.
    """
    begun = origin_of(run)
    if begun is not None and asked.fits(begun):
        return
    whose = f"run {run.run_id}" if begun is None else f"a fork of {begun.reference.text}"
    raise UsageError(
        f"a fork needs an output folder of its own: {folder} belongs to {whose}",
        hint=f"--fork --output_dir NEW --resume_from_checkpoint {asked.reference.text}",
    )
