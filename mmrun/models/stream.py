"""What leads one input of frames to the backbone: feature extractor (optional) and mapper."""

from torch import Tensor, nn

from mmrun.models.configuration import StreamConfig
from mmrun.models.extractor import FeatureExtractor
from mmrun.models.mapper import Mapped, Mapper


class Stream(nn.Module):
    """Turns frames into positions of the backbone's encoder."""

    def __init__(self, config: StreamConfig, *, size: int) -> None:
        super().__init__()
        extractor = config.feature_extractor_config
        self.feature_extractor = FeatureExtractor.from_config(extractor) if extractor else None
        self.multimodal_mapper = Mapper(config, size=size)

    def forward(self, frames: Tensor, mask: Tensor) -> Mapped:
        """Map ``[B, T, ...]`` with the mask ``[B, T]``."""
        return mapped(frames, mask, extractor=self.feature_extractor, mapper=self.multimodal_mapper)


def mapped(
    frames: Tensor, mask: Tensor, *, extractor: FeatureExtractor | None, mapper: Mapper
) -> Mapped:
    """Send ``[B, T, ...]`` with the mask ``[B, T]`` through the two parts of a stream."""
    if frames.shape[1] == 0:
        # A batch of skipped samples alone: a frame that is not real goes through every layer.
        frames = frames.new_zeros(len(frames), 1, *frames.shape[2:])
        mask = mask.new_zeros(len(mask), 1)
    # Batches are of float32, whatever the weights were cast to.
    if extractor is not None:
        frames, mask = extractor(_like(extractor, frames), mask)
    result: Mapped = mapper(_like(mapper, frames), mask)
    return result


def _like(part: nn.Module, frames: Tensor) -> Tensor:
    weight = next(part.parameters(), None)
    return frames if weight is None else frames.to(weight.dtype)
