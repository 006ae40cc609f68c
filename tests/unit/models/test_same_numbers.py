"""For the same weights and batch the numbers are those that multimodalhugs 0.5.4 gave."""

import math
from typing import Any

import torch
from torch import Tensor

from mmrun.models.configuration import MultimodalEmbedderConfig
from mmrun.models.embedder import MultimodalEmbedderModel
from tests.unit.models.tiny import M2M, SIZE

IDS: dict[str, Any] = {
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}


def numbers(shape: tuple[int, ...], key: int, *, scale: float = 0.3) -> Tensor:
    places = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(0.37 * places * (1 + key / 7) + key)).float().reshape(shape)


@torch.no_grad()
def test_loss_and_logits_are_those_of_multimodalhugs() -> None:
    backbone = {"model_type": "m2m_100", **M2M, **IDS, **STILL, "vocab_size": 20}
    config = MultimodalEmbedderConfig(backbone_config=backbone, feat_dim=SIZE, **IDS)
    tiny: Any = MultimodalEmbedderModel(config)
    tiny.train(mode=False)
    for name, weight in tiny.backbone.named_parameters():
        weight.copy_(numbers(weight.shape, len(name)))
    for key, weight in enumerate(tiny.parts("input_frames")[1].parameters(), start=1):
        weight.copy_(numbers(weight.shape, key))

    outputs = tiny(
        input_frames=numbers((2, 4, SIZE), 3, scale=1.0),
        attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        encoder_prompt=torch.tensor([[9, 8], [7, 6]]),
        labels=torch.tensor([[9, 8, 2], [7, 2, -100]]),
    )

    torch.testing.assert_close(outputs.loss, torch.tensor(2.969895362854004))
    torch.testing.assert_close(
        torch.stack([outputs.logits[0, 1, :4], outputs.logits[1, 0, :4]]),
        torch.tensor(
            [
                [0.0930190235376358, -0.0934165269136428, 0.0938133597373962, -0.0942096114158630],
                [0.0492476634681224, -0.0498864054679870, 0.0505248531699180, -0.0511630065739154],
            ]
        ),
    )
