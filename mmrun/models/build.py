"""From the model section and a tokenizer to a model, new or read from a folder."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from mmrun.config.schema import ModelSection
from mmrun.errors import ConfigError
from mmrun.hub import pretrained
from mmrun.models.configuration import MultimodalEmbedderConfig
from mmrun.models.embedder import MultimodalEmbedderModel
from mmrun.models.extractor import vision_only

logger = logging.getLogger(__name__)

_SHAPED = (
    "feat_dim",
    "multimodal_mapper_type",
    "multimodal_mapper_layer_norm_before",
    "multimodal_mapper_layer_norm",
    "multimodal_mapper_activation",
    "multimodal_mapper_factor",
    "adapter_ksize",
    "adapter_stride",
)
"""Keys that decide which weights there are."""

_FREE = (
    "multimodal_mapper_dropout",
    "freeze_feature_extractor",
    "freeze_multimodal_mapper",
    "freeze_backbone",
    "freeze_encoder_embed_tokens",
    "freeze_decoder_embed_tokens",
    "freeze_lm_head",
)
"""Keys that leave the weights' shapes as they are."""

_REFUSED = (OSError, ValueError, TypeError, KeyError, ImportError, StrictDataclassError)


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
) -> MultimodalEmbedderModel:
    """Make the model that ``section`` describes, its new weights drawn from ``seed``.

    The rows of ``new_tokens`` in a pretrained backbone start as the mean of the rows it had.
    """
    register_models()
    _check_mapper(section)
    backbone = _pretrained_backbone(section, tokenizer=tokenizer, new_tokens=new_tokens)
    extractor = _pretrained_extractor(section)
    config = MultimodalEmbedderConfig(
        backbone_config=backbone.config if backbone else _backbone_config(section, tokenizer),
        feature_extractor_config=extractor.config if extractor else _extractor_config(section),
        **{key: getattr(section, key) for key in (*_SHAPED, *_FREE)},
    )
    _take_ids(config)
    with _seeded(seed), _refusing("model.backbone_config"):
        model = MultimodalEmbedderModel(config)
    if backbone is not None:
        model.backbone.load_state_dict(backbone.state_dict())
    if extractor is not None and model.feature_extractor is not None:
        model.feature_extractor.encoder.load_state_dict(extractor.state_dict())
    _check_features(model, feature_size=section.feat_dim)
    _set_generation(model, section=section, backbone=backbone)
    _check_trainable(model)
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


@contextmanager
def _refusing(key: str, hint: str = "correct the model section of the experiment file") -> Any:
    """Tell what a library does not accept as a mistake in ``key``."""
    try:
        yield
    except _REFUSED as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
        raise ConfigError(f"{key}: {reason.strip()}", hint=hint) from error


def _backbone_config(section: ModelSection, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Return the configuration of a backbone that starts from nothing, sized for the tokenizer."""
    given = dict(section.backbone_config or {})
    with _refusing("model.backbone_type", hint="m2m_100, bart, mbart, t5, ... of transformers"):
        defaults = AutoConfig.for_model(section.backbone_type)
    _check_keys(given, known=defaults, key="model.backbone_config")
    ids = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": _start_id(defaults, tokenizer),
    }
    with _refusing("model.backbone_config"):
        config = AutoConfig.for_model(section.backbone_type, **{**ids, **given})
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


def _check_keys(given: Mapping[str, Any], *, known: PreTrainedConfig, key: str) -> None:
    """Refuse what transformers would keep without using it."""
    names = {*known.to_dict(), *known.attribute_map}
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ConfigError(
                f"{key}.{name}: {known.model_type} has no such key"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"the keys are those of transformers' {type(known).__name__}",
            )


def _pretrained_backbone(
    section: ModelSection, *, tokenizer: PreTrainedTokenizerBase, new_tokens: Collection[str]
) -> Any:
    """Return the backbone of ``pretrained_backbone``, with a row for every token; or None."""
    if section.pretrained_backbone is None:
        return None
    key = "model.pretrained_backbone"
    config = _read(AutoConfig, section.pretrained_backbone, key=key)
    if "backbone_type" in section.model_fields_set and config.model_type != section.backbone_type:
        raise ConfigError(
            f"model.backbone_type: is {section.backbone_type!r}, model.pretrained_backbone is of "
            f"the type {config.model_type!r}",
            hint=f"set model.backbone_type to {config.model_type}",
        )
    _check_keys(section.backbone_config or {}, known=config, key="model.backbone_config")
    backbone = _read(
        AutoModelForSeq2SeqLM,
        section.pretrained_backbone,
        key=key,
        **(section.backbone_config or {}),
    )
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(backbone.config, name) != getattr(tokenizer, name):
            raise ConfigError(
                f"processor.tokenizer_path: {name} is {getattr(tokenizer, name)}, the backbone has "
                f"{getattr(backbone.config, name)}",
                hint="use the tokenizer that belongs to model.pretrained_backbone",
            )
    _extend(backbone, tokenizer=tokenizer, new_tokens=new_tokens)
    return backbone


def _read(kind: Any, name: str, *, key: str, **changed: Any) -> Any:
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


@torch.no_grad()
def _extend(
    backbone: Any, *, tokenizer: PreTrainedTokenizerBase, new_tokens: Collection[str]
) -> None:
    """Give ``new_tokens`` rows that are the mean of those that the backbone had."""
    had = backbone.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > had:
        backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    vocabulary = tokenizer.get_vocab()
    new = {*(vocabulary[token] for token in new_tokens), *range(had, len(tokenizer))}
    old = torch.tensor([row for row in range(had) if row not in new])
    tables = {
        id(layer.weight): layer.weight
        for layer in (backbone.get_input_embeddings(), backbone.get_output_embeddings())
    }
    for weight in tables.values():
        weight[sorted(new)] = weight[old].mean(dim=0)


def _extractor_config(section: ModelSection) -> PreTrainedConfig | None:
    if section.feature_extractor_type is None:
        for key in ("feature_extractor_config", "pretrained_feature_extractor"):
            if getattr(section, key):
                raise ConfigError(
                    f"model.{key}: there is no feature extractor",
                    hint="set model.feature_extractor_type, for instance clip",
                )
        return None
    given = dict(section.feature_extractor_config or {})
    with _refusing("model.feature_extractor_type", hint="clip, vit, dinov2, ... of transformers"):
        defaults = AutoConfig.for_model(section.feature_extractor_type)
    _check_keys(given, known=defaults, key="model.feature_extractor_config")
    with _refusing("model.feature_extractor_config"):
        config: PreTrainedConfig = AutoConfig.for_model(section.feature_extractor_type, **given)
    return config


def _pretrained_extractor(section: ModelSection) -> Any:
    name = section.pretrained_feature_extractor
    if name is None or section.feature_extractor_type is None:
        return None
    key = "model.pretrained_feature_extractor"
    changed = dict(section.feature_extractor_config or {})
    config = _read(AutoConfig, name, key=key)
    _check_keys(changed, known=config, key="model.feature_extractor_config")
    return vision_only(_read(AutoModel, name, key=key, **changed))


def _take_ids(config: MultimodalEmbedderConfig) -> None:
    backbone: Any = config.backbone_config
    for name in ("pad", "bos", "eos", "decoder_start"):
        setattr(config, f"{name}_token_id", getattr(backbone, f"{name}_token_id", None))
    config.tie_word_embeddings = bool(getattr(backbone, "tie_word_embeddings", True))


def _check_mapper(section: ModelSection) -> None:
    """Refuse what contradicts the type of the mapper, and name what it does not use."""
    kind = section.multimodal_mapper_type
    if kind != "linear" and section.multimodal_mapper_factor is None:
        raise ConfigError(
            f"model.multimodal_mapper_factor: is not given, and the mapper is of the type {kind}",
            hint="set how much wider its inner layer is, for instance 2",
        )
    kernels, strides = section.adapter_ksize or (3, 3), section.adapter_stride or (2, 2)
    if kind == "cnn_adapter" and len(kernels) != len(strides):
        raise ConfigError(
            f"model.adapter_stride: has {len(strides)} values, adapter_ksize has {len(kernels)}",
            hint="give one stride for each kernel",
        )
    unused = {
        "linear": ("multimodal_mapper_factor", "adapter_ksize", "adapter_stride"),
        "adapter": ("adapter_ksize", "adapter_stride"),
    }.get(kind, ())
    given = [f"model.{key}" for key in unused if getattr(section, key) is not None]
    if given:
        logger.warning("%s: without effect on a mapper of the type %s", ", ".join(given), kind)


@torch.no_grad()
def _check_features(model: MultimodalEmbedderModel, *, feature_size: int) -> None:
    """Send one empty image through the feature extractor, to see what comes out."""
    if model.feature_extractor is None:
        return
    config: Any = model.config.feature_extractor_config
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    with _refusing("model.feature_extractor_type", hint="choose an encoder of images"):
        image = torch.zeros(1, 1, getattr(vision, "num_channels", 3), height, width)
        found = model.feature_extractor.eval()(image).shape[-1]
        model.feature_extractor.train(model.training)
    if found != feature_size:
        raise ConfigError(
            f"model.feat_dim: is {feature_size}, the feature extractor gives {found} values",
            hint=f"set model.feat_dim to {found}",
        )


def _set_generation(
    model: MultimodalEmbedderModel, *, section: ModelSection, backbone: Any
) -> None:
    """Generate as the backbone does, up to ``model.max_length`` tokens."""
    generation: Any = model.generation_config
    if backbone is not None:
        generation = backbone.generation_config
        model.generation_config = generation
    for name in ("pad", "bos", "eos", "decoder_start"):
        setattr(generation, f"{name}_token_id", getattr(model.config, f"{name}_token_id"))
    generation.max_length = section.max_length


def _check_trainable(model: MultimodalEmbedderModel) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "model.freeze_backbone: nothing is left to train",
            hint="leave at least one part of the model unfrozen",
        )
