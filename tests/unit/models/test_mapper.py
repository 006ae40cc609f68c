from typing import Any

import pytest
import torch

from mmrun.models.configuration import StreamConfig
from mmrun.models.mapper import Mapper
from tests.unit.models.tiny import M2M, SIZE


def mapper(**given: Any) -> Mapper:
    torch.manual_seed(0)
    return Mapper(StreamConfig(feat_dim=SIZE, **given), size=M2M["d_model"]).eval()


@pytest.mark.parametrize("kind", ["linear", "adapter"])
def test_each_frame_becomes_a_position(kind: str) -> None:
    mapped = mapper(multimodal_mapper_type=kind)(torch.randn(2, 5, SIZE), torch.ones(2, 5))

    assert mapped.positions.shape == (2, 5, M2M["d_model"])
    assert mapped.mask.shape == (2, 5)


def test_a_cnn_adapter_shortens_signal_and_mask() -> None:
    mask = torch.tensor([[1] * 9, [1] * 4 + [0] * 5])

    mapped = mapper(multimodal_mapper_type="cnn_adapter")(torch.randn(2, 9, SIZE), mask)

    assert mapped.positions.shape == (2, 3, M2M["d_model"])
    assert mapped.mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_what_lies_in_the_padding_does_not_count() -> None:
    cnn = mapper(multimodal_mapper_type="cnn_adapter")
    frames, mask = torch.randn(1, 9, SIZE), torch.tensor([[1] * 6 + [0] * 3])
    changed = frames.clone()
    changed[:, 6:] = 100.0

    first, second = (cnn(given, mask) for given in (frames, changed))

    real = first.mask.bool()
    torch.testing.assert_close(first.positions[real], second.positions[real])


def test_an_activation_leaves_nothing_negative() -> None:
    mapped = mapper(multimodal_mapper_activation=True)(torch.randn(1, 4, SIZE), torch.ones(1, 4))

    assert (mapped.positions >= 0).all()


def test_a_layer_norm_makes_positions_alike_in_size() -> None:
    mapped = mapper(multimodal_mapper_layer_norm=True)(
        torch.randn(1, 4, SIZE) * 100, torch.ones(1, 4)
    )

    torch.testing.assert_close(
        mapped.positions.std(dim=-1, correction=0), torch.ones(1, 4), rtol=1e-3, atol=1e-3
    )


SHAPES = [
    ((3, 3), (2, 2)),
    ((5,), (3,)),
    ((4, 3), (2, 1)),
    ((2, 2, 2), (2, 2, 2)),
    ((1,), (1,)),
    ((7, 4), (5, 3)),
]


@pytest.mark.parametrize(("kernels", "strides"), SHAPES)
@torch.no_grad()
def test_the_mask_of_a_cnn_adapter_is_what_its_convolutions_make_of_each_length(
    kernels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    lengths = range(1, 24)
    cnn = mapper(
        multimodal_mapper_type="cnn_adapter", adapter_ksize=kernels, adapter_stride=strides
    )
    frames = torch.randn(len(lengths), lengths[-1], SIZE)
    mask = (torch.arange(lengths[-1]) < torch.tensor(lengths)[:, None]).long()

    together = cnn(frames, mask)

    for row, length in enumerate(lengths):
        alone = cnn(frames[row, None, :length], mask[row, None, :length]).positions[0]
        real = int(together.mask[row].sum())
        assert real == len(alone)
        torch.testing.assert_close(together.positions[row, :real], alone)


@pytest.mark.parametrize(("kernels", "strides"), SHAPES)
def test_a_signal_without_frames_has_no_positions(
    kernels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    cnn = mapper(
        multimodal_mapper_type="cnn_adapter", adapter_ksize=kernels, adapter_stride=strides
    )

    mapped = cnn(torch.randn(2, 9, SIZE), torch.tensor([[1] * 9, [0] * 9]))

    assert mapped.mask.sum(dim=1)[1] == 0
