"""The configuration of the multimodal embedder, as Hugging Face saves and loads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

SubConfig = dict[str, Any] | PreTrainedConfig | None


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of the model, by the names of its two tensors in a batch."""

    name: str
    mask: str
    tokens: bool = False
    """Whether it holds ids, which the backbone embeds itself, and not frames."""


FRAMES = InputSpec("input_frames", "attention_mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """What leads the frames of one input to the backbone."""

    feature_extractor_config: PreTrainedConfig | None = None
    feat_dim: int = 512
    multimodal_mapper_type: str | None = "linear"
    multimodal_mapper_layer_norm_before: bool = False
    multimodal_mapper_layer_norm: bool = False
    multimodal_mapper_activation: bool = False
    multimodal_mapper_factor: int | None = None
    multimodal_mapper_dropout: float | None = None
    adapter_ksize: list[int] | tuple[int, ...] | None = None
    adapter_stride: list[int] | tuple[int, ...] | None = None
    freeze_feature_extractor: bool = False
    freeze_multimodal_mapper: bool = False


STREAM_KEYS = tuple(StreamConfig.__dataclass_fields__)
_NAMES = ("name", "mask", "tokens")


class MultimodalEmbedderConfig(PreTrainedConfig):
    """Streams and backbone; complete without the experiment file.

    The keys of a stream (``feat_dim``, ...) are those of the first one that has frames; what
    differs in another stands in ``streams``, beside the names of its tensors.
    """

    model_type = "multimodal_embedder"
    # transformers 5 reads these to carry data types and attention kinds down to the parts.
    sub_configs_defaults = {  # noqa: RUF012 (the form that transformers asks for)
        "backbone_config": SubConfigSpec(AutoConfig, model_type="m2m_100"),
        "feature_extractor_config": SubConfigSpec(AutoConfig, model_type="clip", optional=True),
    }
    keys_to_ignore_at_inference = [  # noqa: RUF012 (likewise)
        "past_key_values",
        "encoder_last_hidden_state",
    ]

    backbone_config: SubConfig = None
    feature_extractor_config: SubConfig = None
    streams: list[dict[str, Any]] | None = None
    feat_dim: int = 512
    multimodal_mapper_type: str | None = "linear"
    multimodal_mapper_layer_norm_before: bool = False
    multimodal_mapper_layer_norm: bool = False
    multimodal_mapper_activation: bool = False
    multimodal_mapper_factor: int | None = None
    multimodal_mapper_dropout: float | None = None
    adapter_ksize: list[int] | tuple[int, ...] | None = None
    adapter_stride: list[int] | tuple[int, ...] | None = None
    freeze_feature_extractor: bool = False
    freeze_multimodal_mapper: bool = False
    freeze_backbone: bool = False
    freeze_encoder_embed_tokens: bool = False
    freeze_decoder_embed_tokens: bool = False
    freeze_lm_head: bool = False
    untied: list[str] | None = None
    """Weights of the backbone that its configuration ties, and its files hold apart."""
    lora: dict[str, Any] | None = None
    cache_frozen_mb: int | None = None
    attention: str | None = None
    """How the backbone computes attention, where transformers is not to choose."""
    is_encoder_decoder: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Make configurations of what a file holds as dictionaries."""
        self.backbone_config = _as_config(self.backbone_config) or AutoConfig.for_model("m2m_100")
        self.feature_extractor_config = _as_config(self.feature_extractor_config)
        super().__post_init__(**kwargs)

    def get_text_config(
        self, decoder: bool | None = None, encoder: bool | None = None
    ) -> PreTrainedConfig:
        """Return the backbone's configuration: it is what generation needs to know."""
        return _backbone(self).get_text_config(decoder=decoder, encoder=encoder)

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The inputs in the order in which the encoder reads them."""
        if self.streams is None:
            return (FRAMES,)
        return tuple(
            InputSpec(**{key: stream[key] for key in _NAMES if key in stream})
            for stream in self.streams
        )

    def stream(self, name: str) -> StreamConfig:
        """Return what holds for the input ``name``."""
        own: Mapping[str, Any] = next(
            (stream for stream in self.streams or () if stream["name"] == name), {}
        )
        keys = {key: own.get(key, getattr(self, key)) for key in STREAM_KEYS}
        keys["feature_extractor_config"] = _as_config(keys["feature_extractor_config"])
        return StreamConfig(**keys)

    @property
    def backbone_size(self) -> int:
        """How many numbers a position has in the backbone's encoder."""
        return int(_backbone(self).hidden_size)

    @property
    def vocab_size(self) -> int:
        """How many rows the backbone's output has."""
        return int(_backbone(self).vocab_size)


def _as_config(given: SubConfig) -> PreTrainedConfig | None:
    if isinstance(given, dict):
        fields = dict(given)
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    return given


def _backbone(config: MultimodalEmbedderConfig) -> PreTrainedConfig:
    backbone = config.backbone_config
    if not isinstance(backbone, PreTrainedConfig):
        raise TypeError(f"backbone_config is a {type(backbone).__name__}")
    return backbone
