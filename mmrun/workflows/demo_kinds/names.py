"""A parallel corpus: names of languages, from the message catalogues of a package."""

import gettext
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files

from mmrun.config.schema import SPLITS, Split
from mmrun.workflows.demo_kinds.sample import Sample, Samples, require_package

TARGETS = ("fr", "uk")
PACKAGE = "pycountry"
"""It ships the catalogues of Debian's iso-codes."""

_CATALOGUE = "iso639-3"
_KEY = "639-3"
_SHARES: Mapping[Split, float] = {"train": 0.84, "validation": 0.08, "test": 0.08}
_FREQUENT = 5
"""In so many names a word must be: what is there once cannot be learned from other names."""


def name_samples(*, seed: int) -> Samples:
    """Yield English names and what they are in other languages.

    A name is in one split only, with all its translations, and so are names of the same words.
    """
    require_package(PACKAGE, extra="demo")
    translated = _translated()
    for split, names in _split(_learnable(translated), seed=seed).items():
        for name in names:
            for language, text in zip(TARGETS, translated[name], strict=True):
                yield (
                    split,
                    Sample(
                        signal=name,
                        output=text,
                        encoder_prompt="__en__",
                        decoder_prompt=f"__{language}__",
                    ),
                )


def _translated() -> Mapping[str, tuple[str, ...]]:
    """Return the names that every catalogue has, with what is said there."""
    package = files(PACKAGE)
    database = (package / "databases" / f"{_CATALOGUE}.json").read_text(encoding="utf-8")
    names = [entry["name"] for entry in json.loads(database)[_KEY]]
    catalogues = []
    for language in TARGETS:
        found = package / "locales" / language / "LC_MESSAGES" / f"{_CATALOGUE}.mo"
        with as_file(found) as path, path.open("rb") as content:
            catalogues.append(gettext.GNUTranslations(content))
    said = {name: tuple(each.gettext(name) for each in catalogues) for name in names}
    # A catalogue answers with the name itself where it has no translation.
    return {name: texts for name, texts in said.items() if name not in texts}


def _learnable(names: Mapping[str, object]) -> Sequence[str]:
    """Return the names of several words, one of which is frequent."""
    several = sorted(name for name in names if len(name.split()) > 1)
    frequency = Counter(word for name in several for word in _words(name))
    return [name for name in several if max(frequency[word] for word in _words(name)) >= _FREQUENT]


def _words(name: str) -> frozenset[str]:
    return frozenset(name.lower().replace("(", " ").replace(")", " ").split())


def _split(names: Sequence[str], *, seed: int) -> Mapping[Split, Sequence[str]]:
    chance = random.Random(seed)
    alike: dict[frozenset[str], list[str]] = {}
    for name in names:
        alike.setdefault(_words(name), []).append(name)
    groups = list(alike.values())
    chance.shuffle(groups)
    chosen: dict[Split, Sequence[str]] = {}
    for split in SPLITS:
        size = round(len(alike) * _SHARES[split])
        chosen[split] = [name for group in groups[:size] for name in group]
        groups = groups[size:]
    return chosen
