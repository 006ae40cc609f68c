"""Metrics by name from the package evaluate, which looks on this machine and at the hub."""

from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Real
from typing import Any

from mmrun.errors import ConfigError

Texts = Sequence[str]
_TRIED = "one two three four"


class NotLoadedError(Exception):
    """Evaluate found no such metric, or could not load what it found."""


@cache
def tried(name: str) -> Mapping[str, float]:
    """Return what the metric says of one right text, to see before training that it can.

    Raises:
        NotLoadedError: there is no such metric on this machine, or at a hub that answers.
        ConfigError: it wants something else than texts, or more of them.
    """
    metric = _loaded(name)
    try:
        found = _numbers(metric.compute(predictions=[_TRIED], references=[_TRIED]))
    # Whatever the code of a stranger raises for texts, it cannot be used for them.
    except Exception as error:
        raise ConfigError(
            f"training.metric_name: {name} does not score a text against another one: "
            f"{_first_line(error)}",
            hint="choose a metric of texts; its own options cannot be given",
        ) from error
    if not found:
        raise ConfigError(
            f"training.metric_name: {name} gives no number", hint="choose another metric"
        )
    return found


def compute(name: str, predictions: Texts, references: Texts) -> dict[str, float]:
    """Return every number that the metric gives for the whole corpus."""
    return _numbers(
        _loaded(name).compute(predictions=list(predictions), references=list(references))
    )


@cache
def _loaded(name: str) -> Any:
    import evaluate

    try:
        return evaluate.load(name)
    # Not found, no connection, a package that it needs, or an error in its code.
    except Exception as error:
        raise NotLoadedError(_why_not(error)) from error


def _why_not(error: Exception) -> str:
    # Offline, evaluate says that the metric does not exist at the hub, which it did not ask.
    if isinstance(error, FileNotFoundError):
        return "it is not on this machine, and the hub has none or cannot be reached"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _numbers(found: Mapping[str, Any] | None) -> dict[str, float]:
    return {key: float(value) for key, value in (found or {}).items() if isinstance(value, Real)}
