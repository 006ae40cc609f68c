import pytest

from mmrun.errors import ConfigError
from mmrun.training.metrics import greater_is_better, key_of, score

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
    ],
)
def test_of_errors_and_losses_less_is_better(name: str, greater: bool) -> None:
    assert greater_is_better(name) is greater
