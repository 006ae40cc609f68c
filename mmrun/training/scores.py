"""The computation of each metric: predictions and references of a corpus in, one number out.

The libraries are imported when a metric is computed: most trainings use one or two.
"""

import re
from collections.abc import Sequence
from statistics import fmean

Texts = Sequence[str]


def bleu(predictions: Texts, references: Texts) -> float:
    """Return sacreBLEU's BLEU, 0 to 100."""
    from sacrebleu.metrics.bleu import BLEU

    return float(BLEU().corpus_score(list(predictions), [list(references)]).score)


def chrf(predictions: Texts, references: Texts) -> float:
    """Return chrF, of characters only, 0 to 100."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(predictions), [list(references)]).score)


def chrf_with_words(predictions: Texts, references: Texts) -> float:
    """Return chrF++, which counts pairs of words too, 0 to 100."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF(word_order=2).corpus_score(list(predictions), [list(references)]).score)


def ter(predictions: Texts, references: Texts) -> float:
    """Return the edits for a hundred words of the references, a moved phrase being one."""
    from sacrebleu.metrics.ter import TER

    return float(TER().corpus_score(list(predictions), [list(references)]).score)


def word_errors(predictions: Texts, references: Texts) -> float:
    """Return the edits for each word of the references: 0 is best, and 1 is not the worst."""
    import jiwer

    return float(jiwer.wer(list(references), list(predictions)))


def character_errors(predictions: Texts, references: Texts) -> float:
    """Return the edits for each character of the references."""
    import jiwer

    return float(jiwer.cer(list(references), list(predictions)))


class _Words:
    """Words of any script; of plain Latin letters those that rouge-score itself finds."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


def rouge(predictions: Texts, references: Texts, *, names: Sequence[str]) -> list[float]:
    """Return for each of ``names`` the mean F-measure of all texts, 0 to 1."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(names), tokenizer=_Words())
    found = [
        scorer.score(reference, prediction)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return [fmean(float(values[name].fmeasure) for values in found) for name in names]


def exact_match(predictions: Texts, references: Texts) -> float:
    """Return the share of texts that are right from the first to the last character."""
    pairs = zip(predictions, references, strict=True)
    right = sum(prediction.strip() == reference.strip() for prediction, reference in pairs)
    return right / len(references)
