"""Which options of ``generate`` act, and whether transformers takes them."""

import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from transformers import GenerationConfig

from mmrun.config.schema import GenerationSection
from mmrun.errors import ConfigError
from mmrun.tasks.translation import generation_arguments

logger = logging.getLogger(__name__)

_OF_SAMPLING = frozenset({
    *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff"),
    "eta_cutoff",
})  # fmt: skip
_OF_BEAMS = frozenset({"length_penalty", "early_stopping"})
_OF_RESULT = frozenset({
    *("return_dict_in_generate", "output_scores", "output_logits", "output_attentions"),
    "output_hidden_states",
})  # fmt: skip


def acting_options(section: GenerationSection, *, defaults: GenerationConfig) -> dict[str, Any]:
    """Return what is given beside the model's ``defaults``; what does not act is named and left.

    Raises:
        ConfigError: transformers does not take a value, or two that contradict each other.
    """
    given = generation_arguments(section)
    settings = {name: getattr(defaults, name, None) for name in ("do_sample", "num_beams")} | given
    idle = _idle(given, settings)
    if idle:
        named = ", ".join(f"generation.{name} ({why})" for name, why in idle.items())
        logger.warning("without effect: %s", named)
    options = {name: value for name, value in given.items() if name not in idle}
    tried: Any = deepcopy(defaults)
    try:
        tried.update(**options)
    except (ValueError, TypeError) as error:
        raise refused(error) from error
    # What comes back is decided by the caller of `generate`, and is always the same here.
    return {**options, "return_dict_in_generate": False}


def refused(error: Exception) -> ConfigError:
    """Return what transformers says of an option, as an error of the experiment file."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ConfigError(
        f"generation: {lines[0] if lines else error!r}",
        hint="change that option in the section generation, or on the command line",
    )


def _idle(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Return which of ``given`` the others make idle, and why."""
    greedy = not settings["do_sample"]
    one_beam = int(settings["num_beams"] or 1) == 1
    sampling = dict.fromkeys(_OF_SAMPLING & given.keys(), "do_sample is not true")
    beams = dict.fromkeys(_OF_BEAMS & given.keys(), "there is one beam")
    result = dict.fromkeys(_OF_RESULT & given.keys(), "texts and scores are what is written")
    return {**(sampling if greedy else {}), **(beams if one_beam else {}), **result}
