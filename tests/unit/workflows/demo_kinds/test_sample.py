from collections import Counter

import pytest

from mmrun.errors import PluginError
from mmrun.workflows.demo_kinds.sample import require_package, sentences


def test_no_sentence_is_there_twice() -> None:
    rows = {"train": 30, "validation": 5, "test": 5}

    found = list(sentences("abc", rows=rows, lengths=(1, 4), seed=0))  # type: ignore[arg-type]

    assert Counter(split for split, _ in found) == rows
    assert len({sentence for _, sentence in found}) == 40


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(PluginError, match="needs the package 'pose_formats'") as refused:
        require_package("pose_formats", extra="pose")

    assert refused.value.hint == "pip install 'mmrun[pose]'"
