"""The backbone: from its keys, or from a pretrained one with a row for every token."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from mmrun.config.schema import ModelSection
from mmrun.errors import ConfigError
from mmrun.models.library import known_keys, read_model, read_pretrained, refusing, say_drawn
from mmrun.models.ties import held_apart, keep_apart

ATTENTION = "attn_implementation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A backbone that was read."""

    model: Any
    untied: tuple[str, ...]
    """Weights that its configuration ties, and its files hold apart."""


def own_keys(section: ModelSection, *, known: PreTrainedConfig) -> dict[str, Any]:
    """Return the keys of ``backbone_config`` that ``known`` keeps."""
    taken = {ATTENTION, "max_length"} if section.use_backbone_max_length else {ATTENTION}
    given = section.backbone_config or {}
    own = {name: value for name, value in given.items() if name not in taken}
    return known_keys(own, known=known, key="model.backbone_config")


def longest_output(section: ModelSection, *, backbone: Any) -> int:
    """Return how many tokens are written at most; ``backbone`` is the pretrained one, or None."""
    if not section.use_backbone_max_length:
        return section.max_length
    own = (section.backbone_config or {}).get("max_length")
    said = own or (backbone is not None and backbone.generation_config.max_length)
    if not isinstance(said, int) or not said:
        raise ConfigError(
            "model.use_backbone_max_length: the backbone does not say a length",
            hint="write model.max_length, and remove use_backbone_max_length",
        )
    return said


def backbone_config(
    section: ModelSection, *, tokenizer: PreTrainedTokenizerBase, new_tokens: Collection[str] = ()
) -> PreTrainedConfig:
    """Return the configuration of a backbone that starts from nothing, sized for the tokenizer.

    A ``vocab_size`` that is given may be the tokenizer's without ``new_tokens``.
    """
    with refusing("model.backbone_type", hint="m2m_100, bart, mbart, t5, ... of transformers"):
        defaults = AutoConfig.for_model(section.backbone_type)
    given = own_keys(section, known=defaults)
    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": _start_id(defaults, tokenizer),
    }
    if getattr(defaults, "forced_eos_token_id", None) is not None:
        ids["forced_eos_token_id"] = tokenizer.eos_token_id  # its default is that of one vocabulary
    with refusing("model.backbone_config"):
        config = AutoConfig.for_model(section.backbone_type, **{**ids, **given})
    if 0 < len(tokenizer) - config.vocab_size <= len(new_tokens):
        config.vocab_size = len(tokenizer)
    if config.vocab_size < len(tokenizer):
        raise ConfigError(
            f"model.backbone_config.vocab_size: is {config.vocab_size}, the tokenizer has "
            f"{len(tokenizer)} tokens",
            hint="remove vocab_size: the tokenizer decides it",
        )
    return config


def _start_id(defaults: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that the decoder starts with: the one that this kind of model starts with."""
    usual = getattr(defaults, "decoder_start_token_id", None)
    for name in ("eos", "pad", "bos"):
        found = getattr(tokenizer, f"{name}_token_id")
        if (
            usual is not None
            and getattr(defaults, f"{name}_token_id") == usual
            and found is not None
        ):
            return int(found)
    return int(tokenizer.pad_token_id)  # as T5 does, whose configuration does not say so


def pretrained_backbone(
    section: ModelSection, *, tokenizer: PreTrainedTokenizerBase, new_tokens: Collection[str]
) -> Pretrained | None:
    """Return the backbone of ``pretrained_backbone``, with a row for every token; or None."""
    if section.pretrained_backbone is None:
        return None
    key = "model.pretrained_backbone"
    config = read_pretrained(AutoConfig, section.pretrained_backbone, key=key)
    if "backbone_type" in section.model_fields_set and config.model_type != section.backbone_type:
        raise ConfigError(
            f"model.backbone_type: is {section.backbone_type!r}, model.pretrained_backbone is of "
            f"the type {config.model_type!r}",
            hint=f"set model.backbone_type to {config.model_type}",
        )
    changed = own_keys(section, known=config)
    backbone, drawn = read_model(
        AutoModelForSeq2SeqLM, section.pretrained_backbone, key=key, **changed
    )
    say_drawn(drawn, key=key)
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(backbone.config, name) != getattr(tokenizer, name):
            raise ConfigError(
                f"processor.tokenizer_path: {name} is {getattr(tokenizer, name)}, the backbone has "
                f"{getattr(backbone.config, name)}",
                hint="use the tokenizer that belongs to model.pretrained_backbone",
            )
    untied = held_apart(backbone)
    keep_apart(backbone, untied)
    _extend(backbone, tokenizer=tokenizer, new_tokens=new_tokens)
    return Pretrained(model=backbone, untied=untied)


@torch.no_grad()
def _extend(
    backbone: Any, *, tokenizer: PreTrainedTokenizerBase, new_tokens: Collection[str]
) -> None:
    """Give ``new_tokens`` rows that are the mean of those that the backbone had."""
    had = min(len(weight) for weight in _tables(backbone))
    own = len(tokenizer) - len(new_tokens)
    if own > had:
        raise ConfigError(
            f"processor.tokenizer_path: has {own} tokens, the backbone has embeddings for {had}",
            hint="use the tokenizer that belongs to model.pretrained_backbone, and add tokens with "
            "processor.new_vocabulary",
        )
    if len(tokenizer) > had:
        _require_one_table(backbone, new_tokens=new_tokens)
        backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    vocabulary = tokenizer.get_vocab()
    new = {*(vocabulary[token] for token in new_tokens), *range(had, len(tokenizer))}
    old = torch.tensor([row for row in range(had) if row not in new])
    for weight in _tables(backbone):
        weight[sorted(new)] = weight[old].mean(dim=0)


def _tables(backbone: Any) -> list[torch.Tensor]:
    """Return every table that has a row for each token: one where all are tied."""
    layers = (
        backbone.get_encoder().get_input_embeddings(),
        backbone.get_decoder().get_input_embeddings(),
        backbone.get_output_embeddings(),
    )
    return list({id(layer.weight): layer.weight for layer in layers}.values())


def _require_one_table(backbone: Any, *, new_tokens: Collection[str]) -> None:
    parts = (backbone.get_encoder(), backbone.get_decoder())
    encoder, decoder = (part.get_input_embeddings().weight for part in parts)
    if encoder is not decoder:
        raise ConfigError(
            f"processor.new_vocabulary: adds {len(new_tokens)} tokens, and encoder and decoder of "
            "model.pretrained_backbone do not share their embeddings",
            hint="remove new_vocabulary, or use a backbone with one table of tokens",
        )
