"""The data of the embedded default: rows of real handwritten digits, and what they say."""

import io
import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mmrun.config.schema import SPLITS, Split
from mmrun.errors import PluginError, UsageError
from mmrun.files import flush_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["features", "images"]
COLUMNS = ("signal", "signal_start", "signal_end", "encoder_prompt", "decoder_prompt", "output")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ROWS: Mapping[Split, int] = {"train": 2000, "validation": 200, "test": 200}
MARK = "demo.json"
"""Written into the folder, so that the next call knows it for its own."""

_OWN = re.compile(rf"{re.escape(MARK)}|({'|'.join(SPLITS)})(\.tsv|/\d{{5}}\.(npy|png))")
_SHARES: Mapping[Split, float] = {"train": 0.84, "validation": 0.08, "test": 0.08}
_DARKEST = 16
_LENGTHS = (2, 5)


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
    pixels, labels = _digits()
    chance = random.Random(seed)
    for split, pool in _pools(len(labels), chance=chance).items():
        lines = ["\t".join(COLUMNS)]
        dealt = _dealt(pool, chance=chance)
        for row in range(ROWS[split]):
            chosen = list(islice(dealt, chance.randint(*_LENGTHS)))
            signal = f"{split}/{row:05}.{'npy' if kind == 'features' else 'png'}"
            yield signal, _encoded(pixels[chosen], kind=kind)
            text = " ".join(WORDS[labels[index]] for index in chosen)
            lines.append("\t".join((signal, "0", "0", "", "", text)))
        yield f"{split}.tsv", "".join(f"{line}\n" for line in lines).encode()
    yield MARK, json.dumps({"format": 1, "kind": kind, "seed": seed}).encode()


def _digits() -> "tuple[NDArray[np.float64], Sequence[int]]":
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise PluginError(
            f"the demo data needs the package {error.name!r}", hint="pip install 'mmrun[demo]'"
        ) from error
    found = load_digits()
    return found.images, found.target.tolist()


def _pools(count: int, *, chance: random.Random) -> dict[Split, list[int]]:
    """Deal the digit images out to the splits: none is in two."""
    shuffled = list(range(count))
    chance.shuffle(shuffled)
    pools: dict[Split, list[int]] = {}
    for split in SPLITS:
        size = round(count * _SHARES[split])
        pools[split], shuffled = shuffled[:size], shuffled[size:]
    return pools


def _dealt(pool: Sequence[int], *, chance: random.Random) -> Iterator[int]:
    """Yield the images of a split for ever, each as often as the others."""
    while True:
        yield from chance.sample(pool, k=len(pool))


def _encoded(digits: "NDArray[np.float64]", *, kind: Kind) -> bytes:
    """Return the digits ``[T, 8, 8]`` as a ``[T, 64]`` array, or side by side as a picture."""
    import numpy as np

    content = io.BytesIO()
    shares = digits / _DARKEST
    if kind == "features":
        np.save(content, shares.reshape(len(digits), -1).astype(np.float32))
    else:
        from PIL import Image

        picture = np.concatenate(list(np.rint(shares * 255).astype(np.uint8)), axis=1)
        Image.fromarray(picture).save(content, format="PNG")
    return content.getvalue()


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
