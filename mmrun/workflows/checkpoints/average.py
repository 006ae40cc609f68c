"""What ``mmrun checkpoints average`` does: one model whose weights are the mean of several."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.found import Found, RemovedMeanwhile, found_at
from mmrun.checkpoints.manifest import Description, Manifest
from mmrun.errors import CheckpointError, UsageError
from mmrun.files import folder_whole
from mmrun.workflows.checkpoints.writing import prepare, writing
from mmrun.workflows.target import find_referred, lineage_of

_NOT_OF_A_MODEL = (".pt", ".pth", ".bin", ".safetensors", ".jsonl")
_STATE = frozenset(
    {"trainer_state.json", "mmrun_state.json", "model.safetensors.index.json", manifests.MANIFEST}
)
"""What belongs to a training and not to a model."""


def average_command(
    references: Sequence[str],
    output: Path,
    *,
    output_dir: Path | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Write the mean of several checkpoints to ``output``; return what is to be said.

    Raises:
        UsageError: there are fewer than two, or the folder is taken or cannot be made.
        CheckpointError: one of them is not whole, or they are of different models.
        DiskFullError: there is no room for it.
    """
    if len(references) < 2:  # noqa: PLR2004
        raise UsageError("a mean needs two checkpoints", hint="mmrun checkpoints average REF REF")
    if output.exists():
        raise UsageError(f"{output} exists already", hint="name a folder that does not exist yet")
    prepare(output)
    scratch_at = TemporaryDirectory(prefix=".mmrun-average-", dir=output.parent)
    with writing(output), scratch_at as scratch:
        found = [
            _obtained(words, Path(scratch, str(place)), output_dir=output_dir, uri=tracking_uri)
            for place, words in enumerate(references)
        ]
        write_average(found, to=output)
    return f"{output} has the mean of {', '.join(_name(one) for one in found)}"


def write_average(found: Sequence[Found], *, to: Path) -> Manifest:
    """Make ``to`` a model with the mean of the weights of verified checkpoints on this disk.

    What else the model needs (configuration, tokenizer, processor) comes from the last of them.
    """
    from mmrun.training.averaging import WEIGHTS, average_weights

    folders = [_folder(one) for one in found]
    with _while_there(folders), folder_whole(to) as scratch:
        for path in folders[-1].iterdir():
            if path.is_file() and path.suffix not in _NOT_OF_A_MODEL and path.name not in _STATE:
                shutil.copyfile(path, scratch / path.name)
        average_weights(folders, to=scratch / WEIGHTS)
        manifest = _manifest(scratch, found)
        manifests.write(scratch, manifest)
    return manifest


def _obtained(words: str, scratch: Path, *, output_dir: Path | None, uri: str | None) -> Found:
    """Return a checkpoint that is on this disk for as long as ``scratch`` is."""
    reference, target = find_referred(words, output_dir=output_dir, uri=uri)
    if target is None:
        return found_at(reference.path or Path(words))
    archive, lineage = target.archive(), lineage_of(target)
    found = archive.resolve(reference, lineage=lineage)
    if found.path is not None:
        return found
    archive.copy(reference, to=scratch, lineage=lineage)
    return found_at(scratch)


@contextmanager
def _while_there(folders: Sequence[Path]) -> Iterator[None]:
    """Say which of ``folders`` a training rotated away while they were read."""
    try:
        yield
    except FileNotFoundError as error:
        gone = next((folder for folder in folders if not folder.exists()), None)
        if gone is None:
            raise
        raise RemovedMeanwhile(
            f"{gone} was removed while the mean was made",
            hint="the same again takes it from the store, if it is there",
        ) from error


def _folder(found: Found) -> Path:
    if found.path is None:
        raise AssertionError(f"{found.name} is not on this disk")
    return found.path


def _name(found: Found) -> str:
    manifest = found.manifest
    return found.name if manifest is None else f"{manifest.run_id}@{manifest.step}"


def _manifest(folder: Path, found: Sequence[Found]) -> Manifest:
    known = [one.manifest for one in found if one.manifest is not None]
    if not known:
        raise CheckpointError(
            "none of the checkpoints was written by mmrun", hint="name one of a run of mmrun"
        )
    newest = max(known, key=lambda manifest: manifest.step)
    said = {name: getattr(newest, name) for name in Description.model_fields}
    names = tuple(_name(one) for one in found)
    description = Description(**{**said, "metrics": {}, "selection": None, "average_of": names})
    return Manifest.of(
        description,
        created_ms=time.time_ns() // 1_000_000,
        files=manifests.describe(folder),
    )
