"""Low-rank adapters of the backbone, made by peft in place: the model stays what it is."""

import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from mmrun.errors import ConfigError, PluginError
from mmrun.models.library import refusing

FIELDS = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "init_lora_weights",
    "use_rslora",
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
)
"""Of peft's ``LoraConfig``, those that say how an adapter is made."""

_INIT = "init_lora_weights"
_MARK = "lora_"
_KEY = "model.lora"


def check_lora(given: Mapping[str, Any]) -> None:
    """Refuse a key that peft does not know, or that reaches beyond the adapters."""
    for name in given:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, n=1)
            raise ConfigError(
                f"{_KEY}.{name}: there is no such key"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"the keys are those of peft's LoraConfig: {', '.join(FIELDS)}",
            )


def add_adapters(backbone: nn.Module, given: Mapping[str, Any]) -> None:
    """Put adapters into the layers of ``backbone`` that ``given`` names.

    Raises:
        PluginError: peft is not installed.
        ConfigError: peft refuses the values, or a layer shares its weight with another.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise PluginError(
            f"{_KEY}: adapters are made by the package peft, which is not installed",
            hint="pip install 'mmrun[lora]'",
        ) from error
    check_lora(given)
    shared = {id(weight) for weight in _tied(backbone)}
    with refusing(_KEY, hint="the keys are those of peft's LoraConfig"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")  # refused below
        inject_adapter_in_model(LoraConfig(**given), backbone)
    for name, part in backbone.named_modules():
        base = getattr(part, "base_layer", None)
        if base is not None and id(base.weight) in shared:
            raise ConfigError(
                f"{_KEY}.target_modules: {name} shares its weight with another layer",
                hint="name layers of attention or feed-forward, for instance q_proj and v_proj",
            )


def again(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys with which the same adapters are made to take weights that were saved."""
    return {name: value for name, value in given.items() if name != _INIT}


def train_adapters_alone(backbone: nn.Module) -> None:
    """Take everything but the adapters out of training."""
    for name, weight in backbone.named_parameters():
        weight.requires_grad_(_MARK in name)


def _tied(backbone: nn.Module) -> list[Tensor]:
    """Return the tables of tokens, which encoder, decoder and output may share."""
    layers = [part for part in backbone.modules() if isinstance(part, nn.Embedding)]
    output: Any = getattr(backbone, "get_output_embeddings", lambda: None)()
    return [layer.weight for layer in (*layers, output) if layer is not None]
