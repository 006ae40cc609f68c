"""The configuration of the multimodal embedder, as Hugging Face saves and loads it."""

from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

SubConfig = dict[str, Any] | PreTrainedConfig | None


class MultimodalEmbedderConfig(PreTrainedConfig):
    """Feature extractor (optional), mapper and backbone; complete without the experiment file."""

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
    feat_dim: int = 512
    multimodal_mapper_type: str = "linear"
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
