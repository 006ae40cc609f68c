from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from mmrun.models.build import load_model
from mmrun.models.embedder import packed, token_loss
from tests.unit.models.tiny import BACKBONES, CLIP, SIZE, model

CNN = {
    "multimodal_mapper_type": "cnn_adapter",
    "multimodal_mapper_factor": 2,
    "multimodal_mapper_layer_norm": True,
}


def batch(*, frames: int = 4, rows: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "input_frames": torch.randn(rows, frames, SIZE),
        "attention_mask": torch.ones(rows, frames, dtype=torch.long),
        "labels": torch.tensor([[9, 8, 7, 2]] * rows),
    }


def wider(given: dict[str, Tensor], *, frames: int, labels: int) -> dict[str, Tensor]:
    """Add padding to a batch: it must change nothing."""
    pad = torch.nn.functional.pad
    return {
        "input_frames": pad(given["input_frames"], (0, 0, 0, frames)),
        "attention_mask": pad(given["attention_mask"], (0, frames)),
        "labels": pad(given["labels"], (0, labels), value=-100),
    }


@pytest.mark.parametrize("given", [*BACKBONES, pytest.param(CNN, id="cnn adapter")])
@torch.no_grad()
def test_padding_does_not_change_the_loss(given: dict[str, Any]) -> None:
    tiny = model(**given)

    alone = tiny(**batch()).loss
    padded = tiny(**wider(batch(), frames=3, labels=2)).loss

    torch.testing.assert_close(padded, alone)


@torch.no_grad()
def test_prompts_of_the_encoder_are_read_as_if_each_row_were_alone() -> None:
    tiny = model()
    both = batch() | {
        "encoder_prompt": torch.tensor([[9, 8, 7], [9, 1, 1]]),
        "encoder_prompt_length_padding_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
    }
    second = {name: value[1:] for name, value in batch().items()} | {
        "encoder_prompt": torch.tensor([[9]]),
        "encoder_prompt_length_padding_mask": torch.tensor([[1]]),
    }

    torch.testing.assert_close(tiny(**both).logits[1:], tiny(**second).logits)


@torch.no_grad()
def test_a_prompt_of_the_encoder_makes_a_difference() -> None:
    tiny = model()
    prompt = {"encoder_prompt": torch.tensor([[9], [9]])}

    assert not torch.allclose(tiny(**batch(), **prompt).logits, tiny(**batch()).logits)


def test_the_loss_of_a_step_is_divided_by_all_its_labels() -> None:
    logits = torch.randn(2, 3, 5)
    labels = torch.tensor([[1, 2, -100], [3, -100, -100]])

    whole = token_loss(logits, labels, items=3)

    torch.testing.assert_close(whole, token_loss(logits, labels))
    torch.testing.assert_close(
        whole,
        sum(token_loss(logits[row, None], labels[row, None], items=3) for row in range(2)),
    )


def test_label_smoothing_is_that_of_torch() -> None:
    logits, labels = torch.randn(1, 3, 5), torch.tensor([[1, 2, 3]])

    smoothed = token_loss(logits, labels, label_smoothing=0.1)

    expected = torch.nn.functional.cross_entropy(logits[0], labels[0], label_smoothing=0.1)
    torch.testing.assert_close(smoothed, expected)


def test_packing_leaves_no_gap() -> None:
    first = (torch.tensor([[1.0, 0], [1, 2]])[..., None], torch.tensor([[1, 0], [1, 1]]))
    second = (torch.tensor([[3.0], [3]])[..., None], torch.tensor([[1], [1]]))

    positions, mask = packed([first, second])

    assert positions[0, :2, 0].tolist() == [1, 3]
    assert positions[1, :, 0].tolist() == [1, 2, 3]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("given", BACKBONES)
@pytest.mark.parametrize("beams", [1, 3])
def test_generating_for_a_batch_is_generating_for_each_row(
    given: dict[str, Any], beams: int
) -> None:
    tiny = model(**given)
    inputs = wider(batch(), frames=2, labels=0)

    together = tiny.generate(**inputs, num_beams=beams)
    alone = [
        tiny.generate(
            **{name: value[row, None] for name, value in batch().items()}, num_beams=beams
        )
        for row in range(2)
    ]

    for row in range(2):
        length = alone[row].shape[1]
        assert together[row, :length].tolist() == alone[row][0].tolist()


@pytest.mark.parametrize("beams", [1, 3])
def test_prompts_of_the_decoder_may_differ_in_length(beams: int) -> None:
    tiny = model()
    prompts = {
        "decoder_input_ids": torch.tensor([[9, 8, 7], [8, 1, 1], [1, 1, 1]]),
        "decoder_attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]]),
    }
    inputs = {name: value for name, value in batch(rows=3).items() if name != "labels"}

    together = tiny.generate(**inputs, **prompts, num_beams=beams)

    start = tiny.config.decoder_start_token_id
    assert together[0, :4].tolist() == [start, 9, 8, 7]
    assert together[1, :2].tolist() == [start, 8]
    for row, length in enumerate((3, 1, 0)):
        alone = tiny.generate(
            **{name: value[row, None] for name, value in inputs.items()},
            decoder_input_ids=prompts["decoder_input_ids"][row, None, :length],
            num_beams=beams,
        )
        assert together[row, : alone.shape[1]].tolist() == alone[0].tolist()


def test_the_length_of_generated_text_is_that_of_the_section() -> None:
    assert model(max_length=7).generate(**batch(), eos_token_id=-1).shape[1] == 7


@pytest.mark.parametrize("given", [*BACKBONES, pytest.param(CNN, id="cnn adapter")])
def test_a_saved_model_is_the_same_bit_for_bit(
    tmp_path: Path, given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    tiny = model(**given)
    tiny.save_pretrained(tmp_path)

    loaded = load_model(tmp_path)

    before, after = tiny.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.generation_config.max_length == 12
    assert not caplog.records


@pytest.mark.parametrize("given", BACKBONES)
def test_a_resume_misses_no_weights(tmp_path: Path, given: dict[str, Any]) -> None:
    tiny = model(**given)
    tiny.save_pretrained(tmp_path)

    result = tiny.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=False)

    assert set(result.missing_keys) == set(tiny.all_tied_weights_keys)
    assert not result.unexpected_keys
    tiny.tie_weights()
    assert tiny.get_output_embeddings().weight is tiny.get_input_embeddings().weight


def test_the_auto_classes_of_transformers_read_it(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)

    assert type(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)).__name__ == (
        "MultimodalEmbedderModel"
    )


def test_a_feature_extractor_reads_images() -> None:
    tiny = model(feature_extractor_type="clip", feature_extractor_config=CLIP)
    inputs = {
        "input_frames": torch.randn(2, 1, 3, 8, 8),
        "attention_mask": torch.ones(2, 1, dtype=torch.long),
    }

    loss = tiny(**inputs, labels=torch.tensor([[9, 2], [8, 2]])).loss
    loss.backward()

    assert not any("text" in name for name, _ in tiny.named_parameters())
    assert all(part.grad is not None for part in tiny.parts("input_frames")[1].parameters())
