"""Scores of generated text against references, by the names that sacrebleu gives them."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from mmrun.errors import ConfigError

Texts = Sequence[str]


def score(names: Sequence[str], *, predictions: Texts, references: Texts) -> dict[str, float]:
    """Return each metric of ``names`` over the whole corpus, by the key it is recorded under."""
    check_metrics(names)
    return {key_of(name): _METRICS[name](predictions, references) for name in names}


def key_of(name: str) -> str:
    """Return the key under which a metric is recorded: MLflow takes no ``+`` in it."""
    return name.replace("+", "p")


def check_metrics(names: Sequence[str]) -> None:
    """Refuse names that are no metrics."""
    for name in names:
        if name not in _METRICS:
            near = get_close_matches(name.lower(), _METRICS, n=1)
            raise ConfigError(
                f"training.metric_name: {name!r} is not a metric that mmrun knows"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"choose among {', '.join(_METRICS)}",
            )


def greater_is_better(name: str) -> bool:
    """Tell whether a larger value of a metric is a better one; `eval_` before it is ignored."""
    plain = name.removeprefix("eval_")
    return plain not in _ERRORS and not plain.endswith("loss")


def _bleu(predictions: Texts, references: Texts) -> float:
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score(list(predictions), [list(references)]).score)


def _chrf(predictions: Texts, references: Texts) -> float:
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(predictions), [list(references)]).score)


def _chrf_with_words(predictions: Texts, references: Texts) -> float:
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF(word_order=2).corpus_score(list(predictions), [list(references)]).score)


def _ter(predictions: Texts, references: Texts) -> float:
    from sacrebleu.metrics.ter import TER

    return float(TER().corpus_score(list(predictions), [list(references)]).score)


def _exact_match(predictions: Texts, references: Texts) -> float:
    """Return the share of texts that are right from the first to the last character."""
    pairs = zip(predictions, references, strict=True)
    right = sum(prediction.strip() == reference.strip() for prediction, reference in pairs)
    return right / len(references)


_METRICS: Mapping[str, Callable[[Texts, Texts], float]] = {
    "sacrebleu": _bleu,
    "bleu": _bleu,
    "chrf": _chrf,
    "chrf++": _chrf_with_words,
    "ter": _ter,
    "exact_match": _exact_match,
}

_ERRORS = frozenset({"ter", "wer", "cer"})
"""Of these, less is better."""
