"""The ways to train that transformers and torch offer, each with the step that it must give."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmrun.errors import ConfigError
from mmrun.models.build import load_model
from mmrun.models.embedder import MultimodalEmbedderModel
from tests.unit.models.tiny import BACKBONES, M2M, SIZE, model

ONE_HEAD = {"d_model": SIZE, "encoder_attention_heads": 1, "decoder_attention_heads": 1}
NO_MAPPER = {
    "multimodal_mapper_type": None,
    "backbone_type": "bart",
    "backbone_config": {**M2M, **ONE_HEAD},
}
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}


def batch() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "input_frames": torch.randn(2, 5, SIZE),
        "attention_mask": torch.tensor([[1] * 5, [1] * 3 + [0] * 2]),
        "encoder_prompt": torch.tensor([[9], [8]]),
        "labels": torch.tensor([[9, 8, 2], [7, 2, -100]]),
    }


def gradients(tiny: Any) -> dict[str, Tensor]:
    tiny.zero_grad()
    tiny(**batch()).loss.backward()
    return {
        name.removeprefix("_orig_mod."): part.grad.clone()
        for name, part in tiny.named_parameters()
        if part.grad is not None
    }


def assert_same_step(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("given", BACKBONES)
def test_any_backbone_learns_is_saved_and_writes(tmp_path: Path, given: dict[str, Any]) -> None:
    tiny = model(**given).train()
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=0.01)
    losses = []
    for _ in range(8):
        loss = tiny(**batch()).loss
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tiny.eval().save_pretrained(tmp_path)

    loaded = load_model(tmp_path)

    assert losses[-1] < losses[0]
    inputs = {name: value for name, value in batch().items() if name != "labels"}
    assert loaded.generate(**inputs).tolist() == tiny.generate(**inputs).tolist()


@pytest.mark.parametrize("given", BACKBONES)
def test_gradient_checkpointing_changes_no_gradient(given: dict[str, Any]) -> None:
    tiny = model(**given).train()
    plain = gradients(_without_dropout(tiny))

    tiny.activation_checkpointing_enable()

    assert tiny.get_encoder().gradient_checkpointing
    assert_same_step(gradients(tiny), plain)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_reaches_adapters_below_frozen_parts(reentrant: bool) -> None:
    tiny = _without_dropout(model(lora=LORA, freeze_multimodal_mapper=True).train())
    plain = gradients(tiny)

    tiny.activation_checkpointing_enable({"use_reentrant": reentrant})

    assert any(gradient.any() for gradient in plain.values())
    assert_same_step(gradients(tiny), plain)


@pytest.mark.parametrize("given", BACKBONES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_mixed_precision_gives_nearly_the_same_loss(
    given: dict[str, Any], kind: torch.dtype
) -> None:
    tiny = model(**given)
    whole = tiny(**batch()).loss

    with torch.autocast("cpu", dtype=kind):
        mixed = tiny(**batch()).loss
    mixed.backward()

    torch.testing.assert_close(mixed, whole, rtol=0.03, atol=0.03)
    assert all(
        torch.isfinite(part.grad).all() for part in tiny.parameters() if part.grad is not None
    )


@pytest.mark.parametrize("given", [*BACKBONES, pytest.param(NO_MAPPER, id="no mapper")])
@torch.no_grad()
def test_a_model_in_half_precision_reads_batches_as_they_are(given: dict[str, Any]) -> None:
    tiny: Any = model(**given).bfloat16()

    assert torch.isfinite(tiny(**batch()).loss)
    assert tiny.generate(**{**batch(), "labels": None}).shape[0] == 2


@pytest.mark.parametrize("given", BACKBONES)
@torch.no_grad()
def test_attention_is_sdpa_and_equals_the_plain_one(given: dict[str, Any]) -> None:
    keys = given["backbone_config"]
    eager = {**given, "backbone_config": {**keys, "attn_implementation": "eager"}}

    fast, plain = model(**given), model(**eager)

    assert fast.backbone.config._attn_implementation == "sdpa"
    assert plain.backbone.config._attn_implementation == "eager"
    torch.testing.assert_close(fast(**batch()).loss, plain(**batch()).loss)


def test_the_kind_of_attention_is_kept_with_the_model(tmp_path: Path) -> None:
    model(backbone_config={"d_model": 16, "attn_implementation": "eager"}).save_pretrained(tmp_path)

    assert load_model(tmp_path).backbone.config._attn_implementation == "eager"


def test_a_kind_of_attention_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone_config: .*attn_implementation"):
        model(backbone_config={"d_model": 16, "attn_implementation": "fast"})


def test_a_step_without_any_layer_of_a_frozen_decoder_changes_nothing() -> None:
    keys = {**M2M, "decoder_layerdrop": 1.0}
    tiny = model(freeze_backbone=True, backbone_config=keys).train()

    assert not any(gradient.any() for gradient in gradients(tiny).values())


def test_a_compiled_model_does_the_same_step() -> None:
    tiny = _without_dropout(model().train())
    plain = gradients(tiny)

    # Traced only: the code generator needs a compiler and half a minute.
    compiled: Any = torch.compile(tiny, backend="eager")

    assert_same_step(gradients(compiled), plain)


def _without_dropout(tiny: MultimodalEmbedderModel) -> MultimodalEmbedderModel:
    for part in tiny.modules():
        for name in ("dropout", "p", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return tiny
