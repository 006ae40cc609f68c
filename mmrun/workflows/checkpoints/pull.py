"""What ``mmrun checkpoints pull`` does: a complete, plain folder from wherever a checkpoint is."""

import json
from collections.abc import Collection
from pathlib import Path

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.entry import folder_name
from mmrun.checkpoints.found import Found, copy_whole, found_at
from mmrun.checkpoints.plain import STATE
from mmrun.errors import UsageError
from mmrun.files import write_whole
from mmrun.workflows.checkpoints.writing import prepare, writing
from mmrun.workflows.target import find_referred, lineage_of


def pull_command(
    reference: str,
    folder: Path,
    *,
    output_dir: Path | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Restore a checkpoint as ``folder`` and return what is to be said about it.

    ``from_pretrained`` and a bare ``Trainer`` of Hugging Face read what is there afterwards.

    Raises:
        UsageError: the folder is taken or cannot be made, or the reference says too little.
        CheckpointError: there is no such checkpoint, or it is not whole.
        DiskFullError: there is no room for it.
        TrackingError: the store is out of reach.
    """
    _refuse_taken(folder)
    meant, target = find_referred(reference, output_dir=output_dir, uri=tracking_uri)
    prepare(folder)
    with writing(folder):
        if target is None:
            found, others = found_at(meant.path or Path(reference)), frozenset[int]()
            _copy(found, folder)
        else:
            archive = target.archive()
            found = archive.copy(meant, to=folder, lineage=lineage_of(target))
            others = frozenset(candidate.saved.step for candidate in archive.survey()[0])
        best = _name_best(folder, others=others)
    passed = [f"passed over: {one}" for one in found.rejected]
    return "\n".join([*passed, f"{found.name} is in {folder}, whole", *best])


def _refuse_taken(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} holds something already", hint="name a folder that does not exist yet"
        )


def _copy(found: Found, folder: Path) -> None:
    if found.manifest is None or found.path is None:
        raise UsageError(
            f"{found.name} was not written by mmrun, so it is a plain folder already",
            hint="copy it as it is",
        )
    copy_whole(found.path, found.manifest, to=folder)


def _name_best(folder: Path, *, others: Collection[int]) -> list[str]:
    """Write the path of the best checkpoint into the Trainer's state, if that lies here too.

    A checkpoint knows it as a step, because a path of another machine would lead nowhere. Where it
    is one of ``others``, the steps that can be pulled, that is said; a step may be the best one
    that was evaluated, and never have been saved. A mean of checkpoints has no such state.
    """
    if not (folder / STATE).exists():
        return []
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    step = state.get("best_global_step")
    if step is None:
        return []
    at = folder if step == state["global_step"] else folder.with_name(folder_name(step))
    if not (at / manifests.MANIFEST).exists():
        said = f"its best checkpoint is that of step {step}; pull it to {at} to have it, too"
        return [said] if step in others else []
    state["best_model_checkpoint"] = str(at.resolve())
    write_whole(folder / STATE, json.dumps(state, indent=2) + "\n")
    manifest = manifests.read(folder)
    described = {entry.path: entry for entry in manifests.describe(folder)}
    entries = tuple(
        described[entry.path].model_copy(update={"shared": entry.shared})
        for entry in manifest.files
    )
    manifests.write(folder, manifest.model_copy(update={"files": entries}))
    return []
