"""Images to features, with any vision encoder of transformers."""

from typing import Any

from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

_TEXT_PARTS = ("text_model", "text_projection", "logit_scale", "logit_bias")
"""What a model for images and text has that images do not need."""


class FeatureExtractor(nn.Module):
    """Turns each frame ``[C, H, W]`` into one vector."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder

    @classmethod
    def from_config(cls, config: Any) -> "FeatureExtractor":
        """Make one with random weights."""
        return cls(vision_only(AutoModel.from_config(config)))

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``[B, T, C, H, W]`` to ``[B, T, D]``."""
        batch, time = frames.shape[:2]
        encoder: Any = self.encoder
        flat = frames.flatten(0, 1)
        if hasattr(encoder, "get_image_features"):
            found = encoder.get_image_features(pixel_values=flat)
        else:
            found = encoder(pixel_values=flat)
        vectors = _vector(found)
        return vectors.reshape(batch, time, vectors.shape[-1])


def vision_only(encoder: PreTrainedModel) -> PreTrainedModel:
    """Drop the half of the model that reads text."""
    for name in _TEXT_PARTS:
        if hasattr(encoder, name):
            delattr(encoder, name)
    return encoder


def _vector(found: Any) -> Tensor:
    """Return one vector an image, from what models of different kinds give back."""
    if isinstance(found, Tensor):
        return found
    pooled = getattr(found, "pooler_output", None)
    vector: Tensor = found.last_hidden_state.mean(dim=1) if pooled is None else pooled
    return vector.flatten(1)
