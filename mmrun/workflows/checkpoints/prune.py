"""What ``mmrun checkpoints prune`` does: retention in the store, now."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from mmrun.checkpoints.at_once import Stopped
from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Retention, Saved, newest_first
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.retention import Selected, bytes_of, select
from mmrun.config.loading import load_experiment
from mmrun.tracking.lease import Lease
from mmrun.tracking.store import RunStore
from mmrun.workflows.checkpoints.sizes import in_words
from mmrun.workflows.records import last_record
from mmrun.workflows.target import find_target, lineage_of


def prune_command(
    words: str,
    *,
    keep_last: int | None = None,
    keep_best: int | None = None,
    dry_run: bool = False,
    tracking_uri: str | None = None,
) -> str:
    """Remove what retention does not keep from the store; return what is to be said.

    Args:
        words: An output folder, or the id of a run.
        keep_last: How many of the newest stay; by default as the run's last attempt had it.
        keep_best: How many of the best stay; the same.
        dry_run: Whether to say only what would be done.
        tracking_uri: Where the run is recorded.

    Raises:
        TrackingError: the store is out of reach or cannot delete, or another process works on the
            run: what that one does must not be mixed with this.
    """
    target = find_target(words, uri=tracking_uri)
    store, run_id = target.stored()
    retention = _retention(store, run_id, keep_last=keep_last, keep_best=keep_best)
    with nullcontext() if dry_run else Lease(store, run_id) as lease:
        remote = RemoteCheckpoints(store.artifacts(run_id))
        selected = select(remote, retention=retention, lineage=lineage_of(target))
        freed = _freed(remote, selected)
        if lease is not None:
            selected = _remove(remote, selected, lease=lease)
    return _said(selected, freed=freed, dry_run=dry_run)


def _retention(
    store: RunStore, run_id: str, *, keep_last: int | None, keep_best: int | None
) -> Retention:
    record = last_record(store, run_id)
    tracking = load_experiment(None, base=record.config if record else {}).tracking
    return Retention(
        last=tracking.keep_last if keep_last is None else keep_last,
        best=tracking.keep_best if keep_best is None else keep_best,
    )


def _remove(remote: RemoteCheckpoints, selected: Selected, *, lease: Lease) -> Selected:
    """Remove what was chosen; return what became of it: one that was pinned meanwhile stays."""

    def may_go_on() -> bool:
        return not lease.lost.is_set()

    try:
        gone = remote.drop([one.name for one in selected.go], may_go_on=may_go_on)
        remote.collect(may_go_on=may_go_on)
    except Stopped:
        lease.check()
        raise
    spared = [one for one in selected.go if one.name not in gone]
    return replace(
        selected,
        go=[one for one in selected.go if one.name in gone],
        stay=newest_first([*selected.stay, *spared]),
    )


def _freed(remote: RemoteCheckpoints, selected: Selected) -> int:
    return bytes_of(_manifests(remote, selected.go), beside=_manifests(remote, selected.stay))


def _manifests(remote: RemoteCheckpoints, saved: Sequence[Saved]) -> list[Manifest]:
    found = (remote.manifest(one.name) for one in saved)
    return [manifest for manifest in found if manifest is not None]


def _said(selected: Selected, *, freed: int, dry_run: bool) -> str:
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {one.name}" for one in selected.go]
    held = {"pinned": selected.pinned, "being restored": selected.restoring}
    for one in selected.stay:
        why = ", ".join(word for word, names in held.items() if one.name in names)
        lines.append(f"kept {one.name}{f' ({why})' if why else ''}")
    lines.append(
        f"{verb} {len(selected.go)} of {len(selected.go) + len(selected.stay)}, {in_words(freed)}"
    )
    return "\n".join(lines)
