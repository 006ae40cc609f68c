import re
from collections.abc import Sequence

import pytest
from signwriting.fingerspelling.fingerspelling import get_chars

from mmrun.config.schema import Split
from mmrun.workflows.demo_kinds.sample import WORDS, Sample
from mmrun.workflows.demo_kinds.signed_digits import signed_digit_samples

Rows = Sequence[tuple[Split, Sample]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return list(signed_digit_samples(seed=0))


def symbols(fsw: str) -> Sequence[str]:
    return re.findall(r"S[0-9a-f]{5}", fsw)


def test_each_digit_is_written_as_its_language_signs_it(rows: Rows) -> None:
    for _, sample in rows[:200]:
        digits = get_chars(sample.encoder_prompt.strip("_"))

        for word, sign in zip(sample.output.split(), str(sample.signal).split(), strict=True):
            assert symbols(sign) in [symbols(known) for known in digits[str(WORDS.index(word))]]


def test_a_digit_is_not_written_alike_each_time(rows: Rows) -> None:
    written = {
        sign
        for _, sample in rows
        if sample.encoder_prompt == "__ase__"
        for word, sign in zip(sample.output.split(), str(sample.signal).split(), strict=True)
        if word == "three"
    }

    assert len(written) > 5


def test_no_sequence_of_digits_is_in_two_rows(rows: Rows) -> None:
    assert len({sample.output for _, sample in rows}) == len(rows) == 2400
