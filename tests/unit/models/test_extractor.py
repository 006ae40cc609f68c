from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from mmrun.errors import ConfigError
from mmrun.models.extractor import FeatureExtractor
from tests.unit.models.tiny import CLIP, CLIP_PART, model

VISION = {**CLIP_PART, "image_size": 8, "patch_size": 4, "num_channels": 3}
SOUND = {
    **CLIP_PART,
    "conv_dim": (4, 4),
    "conv_kernel": (5, 3),
    "conv_stride": (3, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
WHISPER = {
    "d_model": 8,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 8,
    "decoder_ffn_dim": 8,
    "num_mel_bins": 4,
    "max_source_positions": 20,
    "vocab_size": 10,
    "pad_token_id": 1,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
SPEECH = {
    **{key: value for key, value in WHISPER.items() if "mel" not in key and "max" not in key},
    "input_feat_per_channel": 4,
    "conv_channels": 4,
    "num_conv_layers": 2,
}
IMAGES = [
    pytest.param("clip", CLIP, 3, id="clip"),
    pytest.param("vit", VISION, 8, id="vit"),
    pytest.param("dinov2", VISION, 8, id="dinov2"),
    pytest.param("siglip_vision_model", VISION, 8, id="siglip"),
    pytest.param(
        "resnet",
        {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"},
        8,
        id="resnet",
    ),
]
SOUNDS = [
    pytest.param("wav2vec2", SOUND, (), id="wav2vec2"),
    pytest.param("hubert", SOUND, (1,), id="hubert"),
    pytest.param("wavlm", SOUND, (), id="wavlm"),
    pytest.param("whisper", WHISPER, (4,), id="whisper"),
    pytest.param("speech_to_text", SPEECH, (4,), id="speech_to_text"),
]


def extractor(kind: str, config: dict[str, Any]) -> FeatureExtractor:
    torch.manual_seed(0)
    return FeatureExtractor.from_config(AutoConfig.for_model(kind, **config)).eval()


def images(*, frames: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(2, frames, dtype=torch.long)
    mask[1, 1:] = 0
    return torch.randn(2, frames, 3, 8, 8), mask


def sounds(channels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    mask = torch.tensor([[1] * 40, [1] * 31 + [0] * 9])
    frames = torch.randn(2, 40, *channels)
    frames[1, 31:] = 0
    return frames, mask


@pytest.mark.parametrize(("kind", "config", "size"), IMAGES)
@torch.no_grad()
def test_every_image_becomes_a_vector_that_depends_on_it_alone(
    kind: str, config: dict[str, Any], size: int
) -> None:
    encoder = extractor(kind, config)
    frames, mask = images()

    features, _ = encoder(frames, mask)

    assert features.shape == (2, 3, encoder.size()) == (2, 3, size)
    alone, _ = encoder(frames[1:, :1], mask[1:, :1])
    torch.testing.assert_close(features[1, :1], alone[0])
    assert not features[1, 1:].any()


@pytest.mark.parametrize(("kind", "config", "channels"), SOUNDS)
@torch.no_grad()
def test_sound_becomes_a_sequence_that_does_not_hear_the_others(
    kind: str, config: dict[str, Any], channels: tuple[int, ...]
) -> None:
    encoder = extractor(kind, config)
    frames, mask = sounds(channels)

    features, shorter = encoder(frames, mask)

    alone, all_real = encoder(frames[1:, :31], mask[1:, :31])
    assert features.shape == (*shorter.shape, encoder.size())
    assert shorter[1].sum() == all_real.sum() < shorter[0].sum() < 40
    torch.testing.assert_close(features[1, : all_real.sum()], alone[0])


@pytest.mark.parametrize(("kind", "config", "channels"), SOUNDS)
def test_a_model_learns_from_sound(
    kind: str, config: dict[str, Any], channels: tuple[int, ...]
) -> None:
    frames, mask = sounds(channels)
    tiny = model(feature_extractor_type=kind, feature_extractor_config=config, feat_dim=8)

    loss = tiny(
        input_frames=frames, attention_mask=mask, labels=torch.tensor([[9, 2], [8, 2]])
    ).loss
    loss.backward()

    assert torch.isfinite(loss)
    assert all(part.grad is not None for part in tiny.parts("input_frames")[1].parameters())


@torch.no_grad()
def test_many_frames_go_through_the_encoder_in_parts() -> None:
    encoder = extractor("vit", VISION)
    sizes: list[int] = []
    encoder.encoder.register_forward_pre_hook(
        lambda _, __, given: sizes.append(len(given["pixel_values"])), with_kwargs=True
    )
    frames, mask = images(frames=150)

    encoder(frames, mask)

    assert sizes == [64, 64, 23]


def test_padding_does_not_go_through_the_encoder() -> None:
    frames, mask = images()
    frames[1, 1:] = torch.nan
    frames.requires_grad_()

    features, _ = extractor("vit", VISION)(frames, mask)
    features.sum().backward()

    assert torch.isfinite(features).all()


def test_frames_of_skipped_samples_alone_are_no_features() -> None:
    features, _ = extractor("vit", VISION)(torch.zeros(2, 1, 3, 8, 8), torch.zeros(2, 1))

    torch.testing.assert_close(features, torch.zeros(2, 1, 8))


def frozen(**given: Any) -> Any:
    dropping = {**VISION, "hidden_dropout_prob": 0.5}
    tiny = model(
        feature_extractor_type="vit",
        feature_extractor_config=dropping,
        feat_dim=8,
        freeze_feature_extractor=True,
        **given,
    )
    return tiny.train()


def test_a_frozen_extractor_gives_one_answer_also_in_training() -> None:
    encoder, _ = frozen().parts("input_frames")
    given = images()

    first, second = (encoder(*given)[0] for _ in range(2))

    assert torch.equal(first, second)
    assert not first.requires_grad


def test_a_trained_extractor_drops_out_in_training() -> None:
    encoder = extractor("vit", {**VISION, "hidden_dropout_prob": 0.5}).train()
    given = images()

    first, second = (encoder(*given)[0] for _ in range(2))

    assert not torch.equal(first, second)


def test_an_extractor_can_be_thawed() -> None:
    tiny = frozen()
    tiny.config.freeze_feature_extractor = False
    tiny.freeze()
    encoder, _ = tiny.train().parts("input_frames")

    assert encoder(*images())[0].requires_grad
    assert any(part.training for part in encoder.modules() if isinstance(part, nn.Dropout))


def test_an_extractor_of_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature_extractor_type"):
        model(feature_extractor_type="bert", feature_extractor_config={"hidden_size": 12})


def test_what_a_part_never_trains_is_not_trained() -> None:
    given: dict[str, Any] = {"feature_extractor_type": "whisper", "feat_dim": 8}

    tiny = model(**given, feature_extractor_config=WHISPER, backbone_type="marian")

    assert {name for name, part in tiny.named_parameters() if not part.requires_grad} == {
        "feature_extractor.encoder.embed_positions.weight",
        "backbone.model.encoder.embed_positions.weight",
        "backbone.model.decoder.embed_positions.weight",
    }


def cached(**given: Any) -> Any:
    return frozen(cache_frozen_mb=1, **given).parts("input_frames")[0]


def seen(encoder: FeatureExtractor) -> list[int]:
    """Count the images of each call of the encoder from now on."""
    counts: list[int] = []
    encoder.encoder.register_forward_pre_hook(
        lambda _, __, given: counts.append(len(given["pixel_values"])), with_kwargs=True
    )
    return counts


def test_a_frozen_encoder_sees_a_cached_frame_once() -> None:
    encoder = cached()
    counts = seen(encoder)

    for _ in range(3):
        encoder(*images())

    assert sum(counts) == 4


def test_a_cached_vector_is_that_of_a_fresh_cache_bit_for_bit() -> None:
    frames, mask = images()
    warm, cold = cached(), cached()
    warm(frames.flip(dims=(0,)), mask)

    assert torch.equal(warm(frames, mask)[0], cold(frames, mask)[0])


def test_a_cache_changes_a_vector_by_rounding_only() -> None:
    plain = frozen().parts("input_frames")[0]

    torch.testing.assert_close(cached()(*images())[0], plain(*images())[0])


def test_a_cache_forgets_what_was_used_longest_ago() -> None:
    encoder = cached()
    encoder.cache._limit = 2 * (8 * 4 + 256)
    counts = seen(encoder)
    frames, mask = images(frames=1)

    encoder(frames, mask)
    encoder(torch.randn(1, 2, 3, 8, 8), torch.ones(1, 2))
    encoder(frames, mask)

    assert len(encoder.cache) == 2
    assert sum(counts) == 2 + 2 + 2


def test_an_encoder_that_is_trained_is_not_cached() -> None:
    tiny = frozen(cache_frozen_mb=1)
    tiny.config.freeze_feature_extractor = False
    tiny.freeze()
    encoder, _ = tiny.parts("input_frames")

    encoder(*images())

    assert len(encoder.cache) == 0


def test_numbers_of_another_precision_are_not_taken_from_the_cache() -> None:
    encoder = cached()
    encoder(*images())

    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoder(*images())

    assert len(encoder.cache) == 2 * 4
