"""What a kind of demo data is made of, and how words are dealt into sentences."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from mmrun.config.schema import Split
from mmrun.errors import PluginError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
"""What digits are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row: what there is to read, and what it says."""

    signal: bytes | str
    """What the file of this sample holds, or the text that stands in the manifest."""
    suffix: str = ""
    output: str
    encoder_prompt: str = ""
    decoder_prompt: str = ""


Samples = Iterator[tuple[Split, Sample]]
"""Split after split, each with its samples in the order of the manifest."""


def sentences(
    words: Sequence[str], *, rows: Mapping[Split, int], lengths: tuple[int, int], seed: int
) -> Iterator[tuple[Split, tuple[str, ...]]]:
    """Yield sentences of ``words``: no sentence is there twice, so none is in two splits."""
    chance = random.Random(seed)
    seen: set[tuple[str, ...]] = set()
    for split, number in rows.items():
        wanted = len(seen) + number
        while len(seen) < wanted:
            sentence = tuple(chance.choices(words, k=chance.randint(*lengths)))
            if sentence not in seen:
                seen.add(sentence)
                yield split, sentence


def require_package(name: str, *, extra: str) -> None:
    """Refuse to go on without a package, before anything is made."""
    if find_spec(name) is None:
        raise PluginError(
            f"this demo data needs the package {name!r}", hint=f"pip install 'mmrun[{extra}]'"
        )
