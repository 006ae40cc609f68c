import sys
from pathlib import Path

import pytest

from mmrun.errors import ConfigError, PluginError
from mmrun.training.metrics import check_metrics, greater_is_better, key_of, keys_of, score

REFERENCES = ["four two seven", "one three"]


@pytest.mark.parametrize("name", ["sacrebleu", "bleu", "chrf", "chrf++"])
def test_what_is_all_right_has_a_hundred(name: str) -> None:
    long = [f"{text} and some more words" for text in REFERENCES]

    assert score([name], predictions=long, references=long) == {key_of(name): pytest.approx(100)}


def test_no_edits_are_no_errors() -> None:
    assert score(["ter"], predictions=REFERENCES, references=REFERENCES) == {"ter": 0}


def test_exact_match_is_a_share_of_whole_texts() -> None:
    predictions = ["four two seven", "one two"]

    assert score(["exact_match"], predictions=predictions, references=REFERENCES) == {
        "exact_match": 0.5
    }


def test_two_names_of_one_metric_agree() -> None:
    found = score(["bleu", "sacrebleu"], predictions=["a b c d e"], references=["a b c d f"])

    assert found["bleu"] == found["sacrebleu"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("wer", 2 / 5, id="a word is wrong, and one is missing"),
        pytest.param("cer", 8 / 23, id="characters, blanks among them"),
    ],
)
def test_errors_are_counted_over_the_whole_corpus(name: str, value: float) -> None:
    found = score([name], predictions=["four two seven", "two"], references=REFERENCES)

    assert found == {name: pytest.approx(value)}


def test_nothing_written_is_all_wrong() -> None:
    found = score(["wer", "cer", "ter"], predictions=["", ""], references=REFERENCES)

    assert found == {"wer": 1, "cer": 1, "ter": 100}


@pytest.mark.parametrize(
    ("name", "value"), [("rouge1", 1.8), ("rouge2", 1.0), ("rougeL", 1.4), ("rougeLsum", 1.4)]
)
def test_rouge_is_the_mean_over_the_texts(name: str, value: float) -> None:
    # Of the first text 4 of 5 and 5 words are the same, no pair of them, 2 in the same order.
    predictions = ["b a d c x", "one three"]
    references = ["a b c d e", "one three"]

    found = score([name], predictions=predictions, references=references)

    assert found == {name: pytest.approx(value / 2)}


def test_rouge_alone_means_all_four() -> None:
    found = score(["rouge"], predictions=REFERENCES, references=REFERENCES)

    assert found == {"rouge1": 1, "rouge2": 1, "rougeL": 1, "rougeLsum": 1}
    assert keys_of(["rouge", "chrf++"]) == {*found, "chrfpp"}


def test_without_a_text_there_is_no_score() -> None:
    assert score(["sacrebleu", "wer", "rouge"], predictions=[], references=[]) == {}


def test_an_unknown_metric_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"'sacreblue' is not a metric .* did you mean 'sacrebleu'"
    ):
        score(["sacreblue"], predictions=[], references=[])


@pytest.mark.parametrize(
    ("name", "greater"),
    [
        ("chrf", True),
        ("eval_exact_match", True),
        ("loss", False),
        ("eval_loss", False),
        ("ter", False),
        ("eval_ter", False),
        ("eval_wer", False),
        ("cer", False),
        ("eval_rougeL", True),
    ],
)
def test_of_errors_and_losses_less_is_better(name: str, greater: bool) -> None:
    assert greater_is_better(name) is greater


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no package be found that is not imported yet."""
    for name in ("jiwer", "rouge_score", "evaluate"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[-1:])  # no editable installation either


@pytest.mark.parametrize("name", ["wer", "cer", "rouge", "rouge2"])
def test_a_metric_without_its_package_names_the_extra(no_extra: None, name: str) -> None:
    with pytest.raises(PluginError, match=f"{name} needs the package") as raised:
        check_metrics([name])

    assert raised.value.hint == "pip install 'mmrun[metrics]'"


def test_an_unknown_name_without_evaluate_names_the_extra(no_extra: None) -> None:
    with pytest.raises(ConfigError, match="'meteor' is not a metric that mmrun knows") as raised:
        check_metrics(["meteor"])

    assert raised.value.hint.endswith("or pip install 'mmrun[metrics]' for those of evaluate")


SCRIPT = """\
import datasets
import evaluate

class Metric(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{"predictions": {kind}, "references": {kind}}})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        longer = sum(len(one) > len(other) for one, other in zip(predictions, references))
        return {{"score": longer, "texts": len(references), "names": predictions}}
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return where a test writes a metric for evaluate."""
    return tmp_path / "longer.py"


def test_another_name_is_a_metric_of_evaluate(script: Path) -> None:
    script.write_text(SCRIPT.format(kind="datasets.Value('string')"), encoding="utf-8")
    predictions = ["four two seven eight", "one three two"]

    found = score([str(script)], predictions=predictions, references=REFERENCES)

    assert found == {"longer": 2, "longer_texts": 2}
    assert keys_of([str(script)]) == set(found)


def test_a_metric_of_evaluate_that_takes_no_texts_is_refused_before_it_is_needed(
    script: Path,
) -> None:
    script.write_text(SCRIPT.format(kind="datasets.Value('int32')"), encoding="utf-8")

    with pytest.raises(ConfigError, match=r"longer\.py does not score a text against another"):
        check_metrics([str(script)])


def test_what_evaluate_does_not_find_is_not_said_to_be_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(ConfigError, match=r"'meteor' .* on this machine, and the hub .* reached"):
        check_metrics(["meteor"])
