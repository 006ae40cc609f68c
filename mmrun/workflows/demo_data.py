"""Data to try with: manifests, and media that are made or that libraries ship."""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal

from mmrun.config.schema import SPLITS, Split
from mmrun.errors import UsageError
from mmrun.files import flush_folder
from mmrun.workflows.demo_kinds.digits import digit_samples
from mmrun.workflows.demo_kinds.movements import movement_samples
from mmrun.workflows.demo_kinds.names import name_samples
from mmrun.workflows.demo_kinds.sample import Sample, Samples
from mmrun.workflows.demo_kinds.signed_digits import signed_digit_samples

Kind = Literal["features", "images", "video", "pose", "signwriting", "text"]
COLUMNS = ("signal", "signal_start", "signal_end", "encoder_prompt", "decoder_prompt", "output")
MARK = "demo.json"
"""Written into the folder, so that the next call knows it for its own."""

KINDS: Mapping[Kind, Callable[[int], Samples]] = {
    "features": lambda seed: digit_samples("features", seed=seed),
    "images": lambda seed: digit_samples("images", seed=seed),
    "video": lambda seed: digit_samples("video", seed=seed),
    "pose": lambda seed: movement_samples(seed=seed),
    "signwriting": lambda seed: signed_digit_samples(seed=seed),
    "text": lambda seed: name_samples(seed=seed),
}
_OWN = re.compile(rf"{re.escape(MARK)}|({'|'.join(SPLITS)})(\.tsv|/\d{{5}}\.(npy|png|mp4|pose))")


def write_demo_data(out: Path, *, kind: Kind = "features", seed: int = 0) -> None:
    """Write manifests and media of the demo into ``out``, whole or not at all.

    The same arguments give the same bytes, and a folder that already holds them is left as it is.
    A folder with anything else in it is refused.
    """
    files = dict(_files(kind=kind, seed=seed))
    _refuse_foreign(out)
    if not _holds(out, files):
        _replace(out, files)


def _files(*, kind: Kind, seed: int) -> Iterator[tuple[str, bytes]]:
    for split, samples in groupby(KINDS[kind](seed), key=itemgetter(0)):
        yield from manifest(split, (sample for _, sample in samples))
    yield MARK, json.dumps({"format": 1, "kind": kind, "seed": seed}).encode()


def manifest(split: Split, samples: Iterable[Sample]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files that the samples have, and of their manifest."""
    lines = ["\t".join(COLUMNS)]
    for number, sample in enumerate(samples):
        signal = sample.signal
        if isinstance(signal, bytes):
            name = f"{split}/{number:05}.{sample.suffix}"
            yield name, signal
            signal = name
        prompts = (sample.encoder_prompt, sample.decoder_prompt)
        lines.append("\t".join((signal, "0", "0", *prompts, sample.output)))
    yield f"{split}.tsv", "".join(f"{line}\n" for line in lines).encode()


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="name a folder that does not exist yet")
    found = [path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()]
    foreign = min((name for name in found if not _OWN.fullmatch(name)), default=None)
    if foreign is not None or (found and MARK not in found):
        raise UsageError(
            f"{out} holds {foreign or min(found)}, which this command did not write",
            hint="name another folder, or empty this one",
        )


def _holds(out: Path, files: Mapping[str, bytes]) -> bool:
    """Tell whether ``out`` has every one of ``files``, byte for byte."""
    try:
        return all((out / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


def _replace(out: Path, files: Mapping[str, bytes]) -> None:
    # Not folder_whole: flushing each of 2,400 files can take a minute, and the next call compares
    # every byte anyway.
    scratch = out.with_name(f".{out.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    for name, content in files.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(content)
    shutil.rmtree(out, ignore_errors=True)
    scratch.rename(out)
    flush_folder(out.parent)
