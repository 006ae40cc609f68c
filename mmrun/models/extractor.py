"""Frames to features, with any vision encoder of transformers."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

_TEXT_PARTS = ("text_model", "text_projection", "logit_scale", "logit_bias")
"""What a model for images and text has that images do not need."""

_AT_ONCE = 64
"""How many frames go through the encoder in one call: it bounds the memory, whatever the batch."""


class FeatureExtractor(nn.Module):
    """Turns each frame ``[C, H, W]`` into one vector; one that is frozen makes no gradients."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder

    @classmethod
    def from_config(cls, config: Any) -> "FeatureExtractor":
        """Make one with random weights."""
        return cls(without_text(AutoModel.from_config(config)))

    @property
    def frozen(self) -> bool:
        """Whether none of its weights is trained."""
        return not any(weight.requires_grad for weight in self.encoder.parameters())

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Switch dropout on or off; in a frozen one it stays off, so that it gives one answer."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[B, T, C, H, W]`` to ``[B, T, D]``; padding does not go through the encoder."""
        real = mask.bool()
        if not bool(real.any()):
            return frames.new_zeros(*frames.shape[:2], self.size()), mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            chunks = [self._vectors(chunk) for chunk in frames[real].split(_AT_ONCE)]
        vectors = torch.cat(chunks)
        features = vectors.new_zeros(*real.shape, vectors.shape[-1])
        features[real] = vectors
        return features, mask

    def size(self) -> int:
        """Send one empty image through the encoder, to see how many values come out."""
        config: Any = self.encoder.config
        vision = getattr(config, "vision_config", config)
        size = getattr(vision, "image_size", 224)
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        weight = next(self.encoder.parameters())
        shape = (1, getattr(vision, "num_channels", 3), height, width)
        with torch.no_grad():
            return self._vectors(weight.new_zeros(shape)).shape[-1]

    def _vectors(self, images: Tensor) -> Tensor:
        encoder: Any = self.encoder
        if hasattr(encoder, "get_image_features"):
            return _vector(encoder.get_image_features(pixel_values=images))
        return _vector(encoder(pixel_values=images))


def without_text(encoder: PreTrainedModel) -> PreTrainedModel:
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
