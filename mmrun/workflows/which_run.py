"""Which run a training belongs to: a decision, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmrun.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Runs that something points at; None where it points at none."""

    reference: str | None = None
    """The run of ``--resume_from_checkpoint``."""
    environment: str | None = None
    """``MLFLOW_RUN_ID``, if that is a run of mmrun's own and not a launcher's."""
    folder: str | None = None
    """The run that the output folder belongs to: `run.json`, else its checkpoints' manifests."""


def which_run(claims: Claims, *, fresh: bool) -> str | None:
    """Return the run to continue, or None for a new one.

    Args:
        claims: What points at a run.
        fresh: Whether a new run was asked for (``--overwrite_output_dir true``).

    Raises:
        UsageError: if two claims disagree, or a new run and an old checkpoint are both asked for.
    """
    if fresh:
        _refuse_overwriting(claims)
        claims = Claims(reference=claims.reference, environment=claims.environment)
    named: Mapping[str, str] = {
        where: run
        for where, run in (
            ("--resume_from_checkpoint", claims.reference),
            ("MLFLOW_RUN_ID", claims.environment),
            ("the output folder", claims.folder),
        )
        if run is not None
    }
    if len(set(named.values())) > 1:
        said = ", ".join(f"{where} is of run {run}" for where, run in named.items())
        raise UsageError(f"two runs are meant: {said}", hint=_two_runs(claims))
    return next(iter(named.values()), None)


def _two_runs(claims: Claims) -> str:
    if claims.environment is not None or claims.reference is None:
        return "give another --output_dir for the other run, or leave one of them out"
    return "give a new --output_dir: the run goes on there, or with --fork a new one begins from it"


def _refuse_overwriting(claims: Claims) -> None:
    for where, run in (
        ("--resume_from_checkpoint points at", claims.reference),
        ("MLFLOW_RUN_ID names", claims.environment),
    ):
        if run is not None and run == claims.folder:
            raise UsageError(
                f"--overwrite_output_dir true removes the checkpoints of the run that {where}",
                hint="leave one of the two out, or begin a new run with --fork --output_dir NEW",
            )
