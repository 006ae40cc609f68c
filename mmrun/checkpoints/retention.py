"""What stays in the store: decided from the manifests there, so that it survives restarts."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from mmrun.checkpoints.manifest import Manifest
from mmrun.checkpoints.policy import Lineage, Retention, Saved, newest_first, to_drop
from mmrun.checkpoints.remote import RemoteCheckpoints

Key = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What retention would do with the checkpoints of a run."""

    stay: Sequence[Saved]
    """Newest first."""
    go: Sequence[Saved]
    """In the order in which to remove them."""
    pinned: frozenset[str] = frozenset()
    restoring: frozenset[str] = frozenset()


def select(
    remote: RemoteCheckpoints,
    *,
    retention: Retention,
    lineage: Lineage,
    keep: Collection[Key] = (),
) -> Selected:
    """Decide what may leave the store; changes nothing.

    Never goes: the newest, what is pinned, what is being restored, what ``keep`` names, and the
    last one that is whole, whatever the numbers say. That is looked up before anything goes, also
    for what this process has sent itself: another one may have removed it since.

    Args:
        remote: The checkpoints in the store.
        retention: How many are kept.
        lineage: The attempts of the run, which tell the superseded ones.
        keep: Step and attempt of others that stay.
    """
    manifests = {e.name: e.manifest for e in remote.entries() if e.manifest is not None}
    stored = [Saved.of(manifest, name=name) for name, manifest in manifests.items()]
    if not stored:
        return Selected(stay=(), go=())
    pinned, restoring = remote.holds.pinned(), remote.holds.being_restored()
    surplus = to_drop(
        stored,
        keep_last=retention.last,
        keep_best=retention.best,
        keep={one.name for one in stored if one.key in keep} | pinned | restoring,
        lineage=lineage,
    )

    def is_whole(one: Saved) -> bool:
        return remote.problem(one.name, manifests[one.name]) is None

    go = _without_the_last_whole(stored, surplus, is_whole=is_whole)
    doomed = {one.name for one in go}
    stay = newest_first(one for one in stored if one.name not in doomed)
    return Selected(stay=stay, go=go, pinned=pinned, restoring=restoring)


def _without_the_last_whole(
    stored: Sequence[Saved], go: Sequence[Saved], *, is_whole: Callable[[Saved], bool]
) -> Sequence[Saved]:
    """Spare the newest whole one, where none of those that stay is."""
    doomed = {one.name for one in go}
    if not go or any(is_whole(one) for one in stored if one.name not in doomed):
        return go
    spared = next((one for one in newest_first(go) if is_whole(one)), None)
    return [one for one in go if one is not spared]


def bytes_of(manifests: Sequence[Manifest], *, beside: Sequence[Manifest] = ()) -> int:
    """Return the bytes that ``manifests`` take in the store and ``beside`` does not need too."""
    needed = {file.sha256 for manifest in beside for file in manifest.files if file.shared}
    shared: dict[str, int] = {}
    own = 0
    for manifest in manifests:
        for file in manifest.files:
            if not file.shared:
                own += file.size
            elif file.sha256 not in needed:
                shared[file.sha256] = file.size
    return own + sum(shared.values())
