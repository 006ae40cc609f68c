from pathlib import Path

import pytest

from mmrun import hub
from mmrun.errors import ConfigError
from mmrun.hub import pretrained


def test_a_folder_is_read_without_the_hub(tmp_path: Path) -> None:
    found = pretrained(str(tmp_path), key="processor.tokenizer_path")

    assert (found.source, found.local_files_only) == (str(tmp_path), True)


@pytest.mark.parametrize("name", ["/no/such/folder", "./tokenizer", "a/b/c", "~/tokenizer"])
def test_a_path_that_leads_nowhere_is_no_name_on_the_hub(name: str) -> None:
    with pytest.raises(ConfigError, match=r"processor\.tokenizer_path: there is no folder"):
        pretrained(name, key="processor.tokenizer_path")


@pytest.mark.parametrize("answers", [True, False])
def test_a_name_is_looked_up_only_where_there_is_a_hub(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(hub, "_hub_answers", lambda: answers)

    found = pretrained("some/model", key="model.pretrained_backbone")

    assert (found.source, found.local_files_only) == ("some/model", not answers)
    assert ("cannot be reached" in found.why_not) is not answers
