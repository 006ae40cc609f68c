import re
from collections.abc import Sequence

import pytest
from signwriting.fingerspelling.fingerspelling import get_chars

from mmrun.config.schema import Split
from mmrun.workflows.demo_kinds.fingerspelling import fingerspelling_samples
from mmrun.workflows.demo_kinds.sample import Sample

Rows = Sequence[tuple[Split, Sample]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return list(fingerspelling_samples(seed=0))


def symbols(fsw: str) -> Sequence[str]:
    return re.findall(r"S[0-9a-f]{5}", fsw)


def test_each_letter_is_written_as_its_language_spells_it(rows: Rows) -> None:
    for _, sample in rows[:200]:
        assert isinstance(sample.signal, str)
        letters = get_chars(sample.encoder_prompt.strip("_"))

        for letter, sign in zip(sample.output.split(), sample.signal.split(), strict=True):
            assert symbols(sign) in [symbols(known) for known in letters[letter]]


def test_a_letter_is_not_written_alike_each_time(rows: Rows) -> None:
    written = {
        sign
        for _, sample in rows
        if sample.encoder_prompt == "__ase__"
        for letter, sign in zip(sample.output.split(), str(sample.signal).split(), strict=True)
        if letter == "a"
    }

    assert len(written) > 5


def test_no_sequence_of_letters_is_in_two_rows(rows: Rows) -> None:
    assert len({sample.output for _, sample in rows}) == len(rows) == 2400
