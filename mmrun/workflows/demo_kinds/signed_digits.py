"""Digits as they are shown with the hand in sign languages, written in SignWriting."""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mmrun.config.schema import Split
from mmrun.workflows.demo_kinds.sample import WORDS, Sample, Samples, require_package, sentences

if TYPE_CHECKING:
    from signwriting.types import Sign

ROWS: Mapping[Split, int] = {"train": 2000, "validation": 200, "test": 200}
LANGUAGES = ("ase", "bfi", "gsg", "jsl")
"""Of America, Britain, Germany and Japan."""

_LENGTHS = (2, 5)
_MOVED = 2
"""By how much a symbol lies elsewhere than in the alphabet."""


def signed_digit_samples(*, seed: int) -> Samples:
    """Yield sequences of digits, a sign each, all in one of the languages."""
    require_package("signwriting", extra="signwriting")
    from signwriting.fingerspelling.fingerspelling import get_chars

    alphabets = {language: get_chars(language) for language in LANGUAGES}
    digits = {word: str(number) for number, word in enumerate(WORDS)}
    chance = random.Random(f"{seed} hands")
    for split, words in sentences(WORDS, rows=ROWS, lengths=_LENGTHS, seed=seed):
        language = chance.choice(LANGUAGES)
        alphabet = alphabets[language]
        signs = [_moved(chance.choice(alphabet[digits[word]]), chance=chance) for word in words]
        yield (
            split,
            Sample(
                signal=" ".join(signs),
                output=" ".join(words),
                encoder_prompt=f"__{language}__",
            ),
        )


def _moved(fsw: str, *, chance: random.Random) -> str:
    """Return the sign as another hand would have written it."""
    from signwriting.formats.fsw_to_sign import fsw_to_sign
    from signwriting.formats.sign_to_fsw import sign_to_fsw

    sign: Sign = fsw_to_sign(fsw)
    for symbol in sign["symbols"]:
        x, y = symbol["position"]
        symbol["position"] = (x + chance.randint(0, _MOVED), y + chance.randint(0, _MOVED))
    x, y = sign["box"]["position"]
    sign["box"]["position"] = (x + _MOVED, y + _MOVED)
    written: str = sign_to_fsw(sign)
    return written
