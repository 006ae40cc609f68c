"""From features to positions of the backbone's encoder."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmrun.models.configuration import StreamConfig

_KERNELS = (3, 3)
_STRIDES = (2, 2)
_FACTOR = 1


class Mapped(NamedTuple):
    """Positions ``[B, T, C]`` and which of them are real ``[B, T]``."""

    positions: Tensor
    mask: Tensor


class Mapper(nn.Module):
    """Layer norm, mapping, dropout, layer norm, ReLU; all but the mapping are optional."""

    def __init__(self, config: StreamConfig, *, size: int) -> None:
        super().__init__()
        self.before = _norm(config.feat_dim, wanted=config.multimodal_mapper_layer_norm_before)
        self.mapping: nn.Module
        factor = config.multimodal_mapper_factor or _FACTOR
        if config.multimodal_mapper_type is None:
            self.mapping = nn.Identity()
        elif config.multimodal_mapper_type == "linear":
            self.mapping = nn.Linear(config.feat_dim, size)
        elif config.multimodal_mapper_type == "adapter":
            self.mapping = Adapter(config.feat_dim, size, factor=factor)
        else:
            kernels = tuple(config.adapter_ksize or _KERNELS)
            strides = tuple(config.adapter_stride or _STRIDES)
            self.mapping = CnnAdapter(
                config.feat_dim, size, factor=factor, kernels=kernels, strides=strides
            )
        self.dropout = nn.Dropout(config.multimodal_mapper_dropout or 0.0)
        self.after = _norm(size, wanted=config.multimodal_mapper_layer_norm)
        self.activation = nn.ReLU() if config.multimodal_mapper_activation else nn.Identity()

    @property
    def shortens(self) -> bool:
        """Whether there are fewer positions than frames."""
        return isinstance(self.mapping, CnnAdapter)

    def shortened(self, frames: int) -> int:
        """Return how many positions so many frames become."""
        layers = self.mapping.layers if isinstance(self.mapping, CnnAdapter) else ()
        for layer in layers:
            frames = _length(frames, *_shape(layer)) if frames else 0
        return frames

    def forward(self, features: Tensor, mask: Tensor) -> Mapped:
        """Map ``[B, T, D]`` with the mask ``[B, T]``; a CNN adapter shortens both."""
        mapped = self.before(features)
        if isinstance(self.mapping, CnnAdapter):
            mapped, mask = self.mapping(mapped, mask)
        else:
            mapped = self.mapping(mapped)
        return Mapped(self.activation(self.after(self.dropout(mapped))), mask)


class Adapter(nn.Module):
    """A widened two-layer network around which its input goes unchanged."""

    def __init__(self, features: int, size: int, *, factor: int) -> None:
        super().__init__()
        self.projection = nn.Linear(features, size) if features != size else nn.Identity()
        self.expand = nn.Linear(size, size * factor)
        self.shrink = nn.Linear(size * factor, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[B, T, D]`` to ``[B, T, C]``."""
        projected: Tensor = self.projection(features)
        widened: Tensor = self.norm(self.shrink(torch.relu(self.expand(projected))))
        return projected + widened


class CnnAdapter(nn.Module):
    """Gated convolutions over time, which shorten long signals."""

    def __init__(
        self,
        features: int,
        size: int,
        *,
        factor: int,
        kernels: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(features, size) if features != size else nn.Identity()
        inner = size * factor
        widths = [size, *(inner for _ in kernels[1:]), size]
        self.layers = nn.ModuleList(
            nn.Conv1d(wide, 2 * narrow, kernel, stride=stride, padding=kernel // 2)
            for wide, narrow, kernel, stride in zip(
                widths[:-1], widths[1:], kernels, strides, strict=True
            )
        )

    def forward(self, features: Tensor, mask: Tensor) -> Mapped:
        """Map ``[B, T, D]``; what is not real counts as zero, however long the batch is."""
        channels = self.projection(features).transpose(1, 2)
        for layer in self.layers:
            channels = nn.functional.glu(layer(channels * mask[:, None]), dim=1)
            mask = _shortened(mask, layer=layer)
        return Mapped(channels.transpose(1, 2), mask)


def _shape(layer: nn.Module) -> tuple[int, int]:
    if not isinstance(layer, nn.Conv1d):
        raise TypeError(f"a CNN adapter has no {type(layer).__name__}")
    return layer.kernel_size[0], layer.stride[0]


def _length(frames: Any, kernel: int, stride: int) -> Any:
    """Return the length that a convolution has, for a number or a tensor of them."""
    return (frames + 2 * (kernel // 2) - kernel) // stride + 1


def _shortened(mask: Tensor, *, layer: nn.Module) -> Tensor:
    kernel, stride = _shape(layer)
    frames = mask.sum(dim=1)
    lengths: Tensor = _length(frames, kernel, stride)
    # An even kernel makes a position of padding alone: that of a signal without frames is not real.
    lengths = lengths.where(frames > 0, 0)
    longest = _length(mask.shape[1], kernel, stride)
    return (torch.arange(longest, device=mask.device) < lengths[:, None]).to(mask.dtype)


def _norm(size: int, *, wanted: bool) -> nn.Module:
    return nn.LayerNorm(size) if wanted else nn.Identity()
