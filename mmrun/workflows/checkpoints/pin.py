"""What ``mmrun checkpoints pin`` does: keep a checkpoint in the store, whatever retention says."""

from pathlib import Path

from mmrun.checkpoints.archive import Archive
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.errors import CheckpointError, UsageError
from mmrun.workflows.target import NOWHERE, find_referred, lineage_of


def pin_command(
    reference: str,
    *,
    remove: bool = False,
    output_dir: Path | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Pin a checkpoint in the store, or take its pin away; return what is to be said.

    Raises:
        UsageError: the reference does not say of which run.
        CheckpointError: the store has no such checkpoint.
    """
    meant, target = find_referred(reference, output_dir=output_dir, uri=tracking_uri)
    if target is None:
        raise UsageError(
            f"{reference} is a folder, and what is pinned lies in the store",
            hint="write RUN_ID@STEP",
        )
    store, run_id = target.stored()
    remote = RemoteCheckpoints(store.artifacts(run_id))
    found = Archive(NOWHERE, remote, run_id=run_id).resolve(meant, lineage=lineage_of(target))
    if remove:
        remote.holds.unpin(found.name)
        return f"{found.name} of run {run_id} is not pinned"
    if not remote.pin(found.name):
        raise CheckpointError(
            f"{found.name} of run {run_id} was removed from {store.uri} meanwhile",
            hint=f"mmrun checkpoints list {run_id}",
        )
    return f"{found.name} of run {run_id} is pinned: no retention removes it"
