"""Scores of generated text against references: which there are, and what they are called.

Those of ``_OWN`` need no hub. Any other name is one of the package evaluate.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import PurePath

from mmrun.errors import ConfigError, PluginError
from mmrun.training import outside_metrics
from mmrun.training.scores import (
    bleu,
    character_errors,
    chrf,
    chrf_with_words,
    exact_match,
    rouge,
    ter,
    word_errors,
)

Texts = Sequence[str]

_LIKELY, _CLEARLY = 0.7, 0.85
"""From which likeness on one of our names may be meant, and is, whatever evaluate may know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    """A metric of mmrun's own: values by the name that each is recorded under."""

    names: tuple[str, ...]
    compute: Callable[[Texts, Texts], Sequence[float]]
    package: str | None = None
    """What the extra `metrics` brings for it."""


_ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def _one(
    name: str, compute: Callable[[Texts, Texts], float], *, package: str | None = None
) -> _Metric:
    return _Metric(names=(name,), compute=lambda *texts: [compute(*texts)], package=package)


def _of_rouge(*names: str) -> _Metric:
    return _Metric(
        names=names, compute=lambda *texts: rouge(*texts, names=names), package="rouge_score"
    )


_OWN: Mapping[str, _Metric] = {
    "sacrebleu": _one("sacrebleu", bleu),
    "bleu": _one("bleu", bleu),
    "chrf": _one("chrf", chrf),
    "chrf++": _one("chrfpp", chrf_with_words),
    "ter": _one("ter", ter),
    "wer": _one("wer", word_errors, package="jiwer"),
    "cer": _one("cer", character_errors, package="jiwer"),
    "rouge": _of_rouge(*_ROUGES),
    **{name: _of_rouge(name) for name in _ROUGES},
    "exact_match": _one("exact_match", exact_match),
}

_ERRORS = frozenset({
    "ter", "wer", "cer", "mer", "wil", "character", "charcut_mt", "perplexity", "mse", "mae"
})  # fmt: skip
"""Of these, less is better."""


def score(names: Sequence[str], *, predictions: Texts, references: Texts) -> dict[str, float]:
    """Return each value of ``names`` over the whole corpus, by the key it is recorded under.

    Without a single text there is nothing to score.
    """
    check_metrics(names)
    values: dict[str, float] = {}
    for name in names if references else ():
        own = _OWN.get(name)
        if own is not None:
            values |= zip(own.names, own.compute(predictions, references), strict=True)
        else:
            values |= _keyed(name, outside_metrics.compute(name, predictions, references))
    return values


def keys_of(names: Sequence[str]) -> frozenset[str]:
    """Return the keys of all values of ``names``; those of evaluate are tried on one text."""
    own = {key for name in names if name in _OWN for key in _OWN[name].names}
    others = (name for name in names if name not in _OWN)
    return frozenset(own.union(*(_keyed(name, outside_metrics.tried(name)) for name in others)))


def key_of(name: str) -> str:
    """Return the key under which a metric is recorded: MLflow takes no ``+`` in it."""
    return name.replace("+", "p")


def check_metrics(names: Sequence[str]) -> None:
    """Refuse names that are no metrics, and metrics whose package is not there.

    Raises:
        ConfigError: no such metric, or none that scores one text against another.
        PluginError: the extra ``metrics`` is needed.
    """
    for name in names:
        own = _OWN.get(name)
        if own is not None and own.package is not None and find_spec(own.package) is None:
            raise PluginError(
                f"training.metric_name: {name} needs the package {own.package}",
                hint="pip install 'mmrun[metrics]'",
            )
        if own is None:
            _check_outside(name)


def greater_is_better(name: str) -> bool:
    """Tell whether a larger value of a metric is a better one; `eval_` before it is ignored."""
    plain = name.removeprefix("eval_")
    return plain not in _ERRORS and not plain.endswith("loss")


def _check_outside(name: str) -> None:
    if near := get_close_matches(name.lower(), _OWN, n=1, cutoff=_CLEARLY):
        raise _unknown(name, near=near[0])
    if find_spec("evaluate") is None:
        raise _unknown(name, more=", or pip install 'mmrun[metrics]' for those of evaluate")
    try:
        outside_metrics.tried(name)
    except outside_metrics.NotLoadedError as error:
        raise _unknown(name, reason=f", and evaluate does not load it: {error}") from error


def _unknown(name: str, *, near: str = "", reason: str = "", more: str = "") -> ConfigError:
    close = [near] if near else get_close_matches(name.lower(), _OWN, n=1, cutoff=_LIKELY)
    return ConfigError(
        f"training.metric_name: {name!r} is not a metric that mmrun knows{reason}"
        + (f"; did you mean {close[0]!r}?" if close else ""),
        hint=f"choose among {', '.join(_OWN)}{more}",
    )


def _keyed(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """Give the main value of a metric of evaluate its name, and put the name before the others."""
    plain = key_of(PurePath(name).stem)
    return {
        plain if key in {plain, "score"} else f"{plain}_{key_of(key)}": value
        for key, value in values.items()
    }
