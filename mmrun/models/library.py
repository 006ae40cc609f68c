"""What transformers is asked for, with its refusals told as mistakes in a key of the file."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from mmrun.config.training_fields import generation_names
from mmrun.errors import ConfigError
from mmrun.hub import pretrained

logger = logging.getLogger(__name__)

_REFUSED = (OSError, ValueError, TypeError, KeyError, ImportError, StrictDataclassError)

_KEPT = torch.float32
"""How weights are trained and saved: in half precision, small steps would be lost."""

_SHOWN = 3

_IN_VERSION_4 = frozenset(
    {
        "_commit_hash",
        "add_cross_attention",
        "cross_attention_hidden_size",
        "finetuning_task",
        "is_decoder",
        "name_or_path",
        "num_labels",
        "prefix",
        "pruned_heads",
        "sep_token_id",
        "task_specific_params",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tie_word_embeddings",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "use_bfloat16",
        "xla_device",
    }
)
"""Keys that every configuration of transformers 4 had, and not every one of transformers 5 has."""

_OF_ONE_KIND: Mapping[str, frozenset[str]] = {
    "clip_text_model": frozenset({"dropout"}),
    "clip_vision_model": frozenset({"dropout"}),
}
"""Keys that were dropped from one kind of model; files of the hub still have them."""


@contextmanager
def refusing(
    key: str, hint: str = "correct the model section of the experiment file"
) -> Iterator[None]:
    """Tell what a library does not accept as a mistake in ``key``."""
    try:
        yield
    except _REFUSED as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ConfigError(f"{key}: {reason.strip()}", hint=hint) from error


def known_keys(given: Mapping[str, Any], *, known: PreTrainedConfig, key: str) -> dict[str, Any]:
    """Return those keys that ``known`` has, at every depth.

    What configurations held before transformers 5 is left out, and named where it said something.
    Any other key, which transformers would keep without using it, is refused.
    """
    names = {*known.to_dict(), *known.attribute_map}
    old = {name for name in given.keys() - names if _is_old(name, given, kind=known.model_type)}
    _name_unused(sorted(name for name in old if given[name]), key=key)
    for name in given:
        if name not in names | old:
            near = get_close_matches(name, names, n=1)
            raise ConfigError(
                f"{key}.{name}: {known.model_type} has no such key"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"the keys are those of transformers' {type(known).__name__}",
            )
    if "dtype" in names and given.get("dtype") not in {None, _KEPT, "float32"}:
        raise ConfigError(
            f"{key}.dtype: is {given['dtype']}, and weights are kept in float32",
            hint="remove it; training.bf16 or training.fp16 compute in half precision",
        )
    return {
        name: _inside(value, known=getattr(known, name, None), key=f"{key}.{name}")
        for name, value in given.items()
        if name in names
    }


def _inside(value: Any, *, known: Any, key: str) -> Any:
    """Go into the configuration of a part."""
    if isinstance(known, PreTrainedConfig) and isinstance(value, Mapping):
        return known_keys(value, known=known, key=key)
    return value


def _is_old(name: str, given: Mapping[str, Any], *, kind: str) -> bool:
    """Tell whether there was such a key once, or a part says the same beside it."""
    parts = [value for value in given.values() if isinstance(value, Mapping)]
    repeated = any(name in part and part[name] == given[name] for part in parts)
    once = _IN_VERSION_4 | _OF_ONE_KIND.get(kind, frozenset()) | generation_names()
    return repeated or name in once


def _name_unused(names: Sequence[str], *, key: str) -> None:
    writes = key == "model.backbone_config"
    generating = [name for name in names if writes and name in generation_names()]
    others = [name for name in names if name not in generating]
    if others:
        logger.warning("%s: without effect in transformers 5: %s", key, ", ".join(others))
    if generating:
        text = "%s: without effect, the section generation says it: %s"
        logger.warning(text, key, ", ".join(generating))


def read_pretrained(kind: Any, name: str, *, key: str, **changed: Any) -> Any:
    """Read what ``kind``, an Auto class of transformers, finds under ``name``."""
    found = pretrained(name, key=key)
    try:
        return kind.from_pretrained(
            found.source, local_files_only=found.local_files_only, **changed
        )
    except _REFUSED as error:
        raise ConfigError(
            f"{key}: {name}: {found.why_not}", hint="name a folder with a model of this kind"
        ) from error


def read_model(kind: Any, name: str, *, key: str, **changed: Any) -> tuple[Any, list[str]]:
    """Read the weights under ``name`` as float32, however they are stored; so says its config.

    Returns:
        The model, and the names of its weights that are not there and were drawn.
    """
    wanted = {**changed, "dtype": _KEPT, "output_loading_info": True}
    model, info = read_pretrained(kind, name, key=key, **wanted)
    return model, sorted(info["missing_keys"])


def say_drawn(names: Sequence[str], *, key: str) -> None:
    """Say which weights of a pretrained part are new."""
    if names:
        logger.warning("%s: lacks %s, which are drawn anew", key, listed(names))


def listed(names: Sequence[str]) -> str:
    """Return the first of ``names``, and how many more there are."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
