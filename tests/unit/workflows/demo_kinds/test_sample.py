from collections import Counter
from collections.abc import Mapping

import pytest

from mmrun.config.schema import Split
from mmrun.errors import PluginError
from mmrun.workflows.demo_kinds.sample import require_package, sentences

ROWS: Mapping[Split, int] = {"train": 30, "validation": 5, "test": 5}


def test_no_sentence_is_there_twice() -> None:
    found = list(sentences("abc", rows=ROWS, lengths=(1, 4), seed=0))

    assert Counter(split for split, _ in found) == ROWS
    assert len({sentence for _, sentence in found}) == 40


def test_a_word_may_follow_itself() -> None:
    found = [sentence for _, sentence in sentences("abc", rows=ROWS, lengths=(2, 4), seed=0)]

    assert ("a", "a") in [(one[0], one[1]) for one in found]


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(PluginError, match="needs the package 'pose_formats'") as refused:
        require_package("pose_formats", extra="pose")

    assert refused.value.hint == "pip install 'mmrun[pose]'"
