import json
from pathlib import Path

import pytest

from mmrun.tasks.written import Candidate, Written
from mmrun.workflows.predictions import Translated, write_predictions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    translated = Translated(
        given={"signal": ["a.npy", "b.npy"], "reference": ["one two", "three"]},
        written=[
            Written(
                candidates=(
                    Candidate(text="one\ttwo\nthree", score=-0.5),
                    Candidate(text="six", score=-0.75),
                )
            ),
            Written(),
        ],
        scores={"chrf": 12.5},
    )
    write_predictions(translated, tmp_path / "checkpoint-6")
    return tmp_path / "checkpoint-6"


def test_the_table_has_a_line_a_row(folder: Path) -> None:
    lines = (folder / "predictions.tsv").read_text(encoding="utf-8").splitlines()

    assert lines == [
        "signal\treference\tprediction\tscore",
        "a.npy\tone two\tone two three\t-0.5",
        "b.npy\tthree\t\t",
    ]


def test_lines_of_json_have_all_texts_as_they_are(folder: Path) -> None:
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()

    assert [json.loads(line) for line in lines] == [
        {
            "signal": "a.npy",
            "reference": "one two",
            "prediction": "one\ttwo\nthree",
            "score": -0.5,
            "others": [{"prediction": "six", "score": -0.75}],
        },
        {"signal": "b.npy", "reference": "three", "prediction": "", "score": None},
    ]


def test_the_scores_lie_also_where_the_newest_are(folder: Path) -> None:
    here = json.loads((folder / "scores.json").read_text(encoding="utf-8"))

    assert here == {"chrf": 12.5}
    assert json.loads((folder.parent / "scores.json").read_text(encoding="utf-8")) == here
