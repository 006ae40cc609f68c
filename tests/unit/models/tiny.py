"""Models of a few thousand parameters."""

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from mmrun.config.schema import ModelSection
from mmrun.data.tokenizer import train_tokenizer
from mmrun.models.build import build_model
from mmrun.models.configuration import FRAMES, InputSpec
from mmrun.models.embedder import MultimodalEmbedderModel

SIZE = 3
M2M = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
BACKBONES = [
    pytest.param({"backbone_type": kind, "backbone_config": keys}, id=kind)
    for kind, keys in {
        "m2m_100": M2M,
        "mbart": {**M2M, "scale_embedding": True},
        "bart": M2M,
        "t5": T5,
        "marian": M2M,
    }.items()
]
CLIP_PART = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
CLIP: dict[str, Any] = {
    "projection_dim": SIZE,
    "text_config": {**CLIP_PART, "vocab_size": 10},
    "vision_config": {**CLIP_PART, "image_size": 8, "patch_size": 4},
}


def section(**given: Any) -> ModelSection:
    return ModelSection(**{"feat_dim": SIZE, "max_length": 12, "backbone_config": M2M, **given})


def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(["four two seven", "read this"] * 4)


def model(
    *, seed: int = 1, inputs: Sequence[InputSpec] = (FRAMES,), **given: Any
) -> MultimodalEmbedderModel:
    built = build_model(section(**given), tokenizer=tokenizer(), seed=seed, inputs=inputs)
    built.train(mode=False)
    return built
