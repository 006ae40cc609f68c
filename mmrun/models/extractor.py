"""Frames to features, with any vision or audio encoder of transformers."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from mmrun.models.vectors import VectorCache

_TEXT_PARTS = ("text_model", "text_projection", "logit_scale", "logit_bias")
"""What a model for images and text has that images do not need."""

_AT_ONCE = 64
"""How many frames go through the encoder in one call: it bounds the memory, whatever the batch."""

_IMAGES = "pixel_values"
_WAVES = "input_values"
_SOUND_FRAMES = "input_features"
_BINS = ("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim")
"""How configurations call the size of a frame of sound."""

_SILENCE = 4000
"""Values of a wave, or a hundredth of them frames, to see what an encoder makes of them."""


class FeatureExtractor(nn.Module):
    """Turns frames into vectors; one that is frozen makes no gradients."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.cache: VectorCache | None = None
        """Vectors of images that a frozen encoder has seen."""

    @classmethod
    def from_config(cls, config: Any) -> "FeatureExtractor":
        """Make one with random weights."""
        return cls(encoder_alone(AutoModel.from_config(config)))

    @property
    def frozen(self) -> bool:
        """Whether none of its weights is trained."""
        return not any(weight.requires_grad for weight in self.encoder.parameters())

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Switch dropout on or off; in a frozen one it stays off, so that it gives one answer."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Map frames with the mask ``[B, T]``; padding does not go through the encoder.

        Images ``[B, T, C, H, W]`` become a vector each ``[B, T, D]``. Sound, as a wave ``[B, T]``
        or ``[B, T, 1]`` or as frames ``[B, T, F]``, becomes a shorter sequence with its own mask.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if self._sees():
                return self._of_images(frames, mask), mask
            return self._of_sound(frames, mask)

    @torch.no_grad()
    def size(self) -> int:
        """Send something empty through the encoder, to see how many values come out."""
        config: Any = self.encoder.config
        weight = next(self.encoder.parameters())
        if self._sees():
            vision = getattr(config, "vision_config", config)
            size = getattr(vision, "image_size", 224)
            height, width = size if isinstance(size, (list, tuple)) else (size, size)
            shape = (1, getattr(vision, "num_channels", 3), height, width)
            return self._vectors(weight.new_zeros(shape)).shape[-1]
        if self.encoder.main_input_name == _WAVES:
            return self._sequence(weight.new_zeros(1, _SILENCE)).shape[-1]
        if self.encoder.main_input_name != _SOUND_FRAMES:
            raise ValueError(f"a {config.model_type} reads neither images nor sound")
        bins = next(value for name in _BINS if (value := getattr(config, name, None)))
        return self._sequence(weight.new_zeros(1, _SILENCE // 100, bins)).shape[-1]

    @property
    def hears(self) -> bool:
        """Whether it makes a shorter sequence of sound."""
        return not self._sees()

    def _sees(self) -> bool:
        whole = hasattr(self.encoder, "get_image_features")  # its main input is the text
        return whole or bool(self.encoder.main_input_name == _IMAGES)

    def _of_images(self, frames: Tensor, mask: Tensor) -> Tensor:
        real = mask.bool()
        if not bool(real.any()):
            return frames.new_zeros(*frames.shape[:2], self.size())
        if self.cache is not None and self.frozen:
            vectors = self.cache.vectors(frames[real], self._vectors)
        else:
            vectors = torch.cat([self._vectors(chunk) for chunk in frames[real].split(_AT_ONCE)])
        features = vectors.new_zeros(*real.shape, vectors.shape[-1])
        features[real] = vectors
        return features

    def _vectors(self, images: Tensor) -> Tensor:
        encoder: Any = self.encoder
        if hasattr(encoder, "get_image_features"):
            return _vector(encoder.get_image_features(pixel_values=images))
        return _vector(encoder(pixel_values=images))

    def _of_sound(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode those of one length together: many encoders would hear the padding of others."""
        if self.encoder.main_input_name == _WAVES and frames.ndim == 3:  # noqa: PLR2004
            frames = frames.squeeze(-1)
        lengths = mask.sum(dim=1)
        encoded: list[Tensor | None] = [None] * len(frames)
        for length in lengths[lengths > 0].unique().tolist():
            rows = (lengths == length).nonzero().flatten()
            found = self._sequence(frames[rows, :length])
            for row, sequence in zip(rows.tolist(), found, strict=True):
                encoded[row] = sequence
        sequences = [one for one in encoded if one is not None]
        if not sequences:
            return frames.new_zeros(len(frames), 1, self.size()), mask[:, :1]
        empty = sequences[0][:0]
        whole = [empty if one is None else one for one in encoded]
        features = nn.utils.rnn.pad_sequence(whole, batch_first=True)
        counts = torch.tensor([len(one) for one in whole], device=mask.device)
        places = torch.arange(features.shape[1], device=mask.device)
        return features, (places < counts[:, None]).to(mask.dtype)

    def _sequence(self, sound: Tensor) -> Tensor:
        """Return ``[N, T', D]`` of sounds that are all real."""
        encoder: Any = self.encoder
        if encoder.main_input_name == _WAVES:
            return cast("Tensor", encoder(input_values=sound).last_hidden_state)
        if encoder.config.model_type != "whisper":
            return cast("Tensor", encoder(input_features=sound).last_hidden_state)
        # Whisper reads channels first, and always as many frames as it was made for.
        whole = 2 * int(encoder.config.max_source_positions)
        if sound.shape[1] > whole:
            raise ValueError(f"whisper reads {whole} frames at most, not {sound.shape[1]}")
        filled = nn.functional.pad(sound.transpose(1, 2), (0, whole - sound.shape[1]))
        found: Tensor = encoder(input_features=filled).last_hidden_state
        return found[:, : (sound.shape[1] - 1) // 2 + 1]


def encoder_alone(model: PreTrainedModel) -> PreTrainedModel:
    """Drop the half of the model that reads or writes text."""
    if model.config.is_encoder_decoder:
        return cast("PreTrainedModel", model.get_encoder())
    for name in _TEXT_PARTS:
        if hasattr(model, name):
            delattr(model, name)
    return model


def _vector(found: Any) -> Tensor:
    """Return one vector an image, from what models of different kinds give back."""
    if isinstance(found, Tensor):
        return found
    pooled = getattr(found, "pooler_output", None)
    vector: Tensor = found.last_hidden_state.mean(dim=1) if pooled is None else pooled
    return vector.flatten(1)
