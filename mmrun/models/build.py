"""From the model section and a tokenizer to a model, new or read from a folder."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
)

from mmrun.config.schema import ModelSection
from mmrun.errors import ConfigError
from mmrun.models.backbone import (
    ATTENTION,
    backbone_config,
    longest_output,
    pretrained_backbone,
)
from mmrun.models.configuration import FRAMES, InputSpec, MultimodalEmbedderConfig
from mmrun.models.embedder import MultimodalEmbedderModel
from mmrun.models.library import refusing
from mmrun.models.plan import check_width, fill_extractor, plan_keys, plan_streams

logger = logging.getLogger(__name__)

_FROZEN_PARTS = (
    "freeze_backbone",
    "freeze_encoder_embed_tokens",
    "freeze_decoder_embed_tokens",
    "freeze_lm_head",
)


def register_models() -> None:
    """Make the Auto classes of transformers know the embedder; calling it again changes nothing."""
    AutoConfig.register(
        MultimodalEmbedderConfig.model_type, MultimodalEmbedderConfig, exist_ok=True
    )
    AutoModelForSeq2SeqLM.register(MultimodalEmbedderConfig, MultimodalEmbedderModel, exist_ok=True)


def build_model(
    section: ModelSection,
    *,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    new_tokens: Collection[str] = (),
    inputs: Sequence[InputSpec] = (FRAMES,),
) -> MultimodalEmbedderModel:
    """Make the model that ``section`` describes, its new weights drawn from ``seed``.

    Args:
        section: What is asked for.
        tokenizer: Decides the vocabulary.
        seed: Of the weights that are new.
        new_tokens: Their rows in a pretrained backbone start as the mean of the rows it had.
        inputs: What a batch holds, in the order in which the encoder reads it.
    """
    register_models()
    with _seeded(seed):  # files may lack weights
        streams = plan_streams(section, inputs=inputs)
        read = pretrained_backbone(section, tokenizer=tokenizer, new_tokens=new_tokens)
    backbone = read.model if read else None
    made = backbone.config if backbone else None
    if made is None:
        made = backbone_config(section, tokenizer=tokenizer, new_tokens=new_tokens)
    config = MultimodalEmbedderConfig(
        backbone_config=made,
        untied=list(read.untied) or None if read else None,
        **plan_keys(streams, inputs=inputs),
        cache_frozen_mb=section.cache_frozen_mb,
        attention=(section.backbone_config or {}).get(ATTENTION),
        **{key: getattr(section, key) for key in _FROZEN_PARTS},
    )
    _take_ids(config)
    for plan in streams:
        check_width(plan, size=config.backbone_size)
    with _seeded(seed), refusing("model.backbone_config"):
        model = MultimodalEmbedderModel(config)
    if backbone is not None:
        model.backbone.load_state_dict(backbone.state_dict())
    for plan in streams:
        fill_extractor(model, plan)
    if section.lora is not None:
        with _seeded(seed):
            model.adapt(section.lora)
    _set_generation(model, section=section, backbone=backbone)
    _check_trainable(model)
    _say_unlearned(model, section=section, new_tokens=new_tokens)
    return model


def load_model(folder: Path) -> MultimodalEmbedderModel:
    """Read what ``save_pretrained`` wrote."""
    register_models()
    model: MultimodalEmbedderModel = MultimodalEmbedderModel.from_pretrained(str(folder))
    return model


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` in the block, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _take_ids(config: MultimodalEmbedderConfig) -> None:
    backbone: Any = config.backbone_config
    for name in ("pad", "bos", "eos", "decoder_start"):
        setattr(config, f"{name}_token_id", getattr(backbone, f"{name}_token_id", None))
    config.tie_word_embeddings = bool(getattr(backbone, "tie_word_embeddings", True))


def _set_generation(
    model: MultimodalEmbedderModel, *, section: ModelSection, backbone: Any
) -> None:
    """Generate as the backbone does, up to the length that the section asks for."""
    longest, room = longest_output(section, backbone=backbone), model.room.decoder
    if room is not None and longest > room:
        if "max_length" in section.model_fields_set:
            raise ConfigError(
                f"model.max_length: is {longest}, the decoder of the backbone has {room} positions",
                hint=f"set it to {room} at most",
            )
        longest = room
    generation: Any = model.generation_config
    if backbone is not None:
        generation = backbone.generation_config
        model.generation_config = generation
    for name in ("pad", "bos", "eos", "decoder_start"):
        setattr(generation, f"{name}_token_id", getattr(model.config, f"{name}_token_id"))
    generation.max_length = longest


def _say_unlearned(
    model: MultimodalEmbedderModel, *, section: ModelSection, new_tokens: Collection[str]
) -> None:
    """Warn where tokens that are to be learned are not."""
    tables = (part.get_input_embeddings() for part in (model.get_encoder(), model.get_decoder()))
    frozen = any(not table.weight.requires_grad for table in tables)
    if new_tokens and frozen:
        keys = ("lora", *_FROZEN_PARTS)
        why = ", ".join(f"model.{key}" for key in keys if getattr(section, key))
        logger.warning(
            "processor.new_vocabulary: its %d tokens stay as they begin, all equal: %s takes their "
            "embeddings out of training",
            len(new_tokens),
            why,
        )


def _check_trainable(model: MultimodalEmbedderModel) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "model.freeze_backbone: nothing is left to train",
            hint="leave at least one part of the model unfrozen",
        )
