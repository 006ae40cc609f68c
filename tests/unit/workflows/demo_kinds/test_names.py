import gettext
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest

from mmrun.config.schema import SPLITS, Split
from mmrun.workflows.demo_kinds.names import PACKAGE, name_samples
from mmrun.workflows.demo_kinds.sample import Sample

Rows = Sequence[tuple[Split, Sample]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return list(name_samples(seed=0))


def test_a_row_says_what_the_catalogue_of_its_language_says(rows: Rows) -> None:
    locales = Path(str(files(PACKAGE))) / "locales"
    read = {
        f"__{language}__": gettext.translation("iso639-3", locales, [language])
        for language in ("fr", "uk")
    }

    for _, sample in rows:
        assert sample.output == read[sample.decoder_prompt].gettext(str(sample.signal))
        assert sample.output != sample.signal


def test_names_of_the_same_words_are_in_one_split(rows: Rows) -> None:
    words = [
        {
            frozenset(str(sample.signal).lower().replace("(", "").replace(")", "").split())
            for split, sample in rows
            if split == wanted
        }
        for wanted in SPLITS
    ]

    assert words[0].isdisjoint(words[1] | words[2])
    assert words[1].isdisjoint(words[2])


def test_each_name_is_there_once_for_each_language(rows: Rows) -> None:
    found = {(sample.signal, sample.decoder_prompt) for _, sample in rows}

    assert len(found) == len(rows) > 2000


def test_the_seed_decides_which_names_are_unseen(rows: Rows) -> None:
    assert list(name_samples(seed=0)) == rows
    assert list(name_samples(seed=1)) != rows
