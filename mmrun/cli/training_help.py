"""The list of training arguments that transformers takes."""

from mmrun.config.training_fields import training_fields
from mmrun.errors import UsageError

_HELP_WIDTH = 76


def training_help(words: str) -> str:
    """Return a line or two for every training argument whose name or help holds ``words``."""
    wanted = words.lower().replace("-", "_")
    fields = training_fields().values()
    named = [f for f in fields if wanted in f.name]
    found = named or [f for f in fields if words.lower() in f.help.lower()]
    if not found:
        raise UsageError(
            f"no training argument is like {words!r}", hint="mmrun train --help-training"
        )
    return "\n".join(
        f"--{field.name}  {' | '.join(field.kinds)}  default {field.default or 'none'}"
        f"\n      {_first_sentence(field.help)}"
        for field in found
    )


def _first_sentence(text: str) -> str:
    sentence = text.partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= _HELP_WIDTH else f"{sentence[: _HELP_WIDTH - 1]}…"
