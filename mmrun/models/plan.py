"""What each input of the model goes through, as the model section says it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from transformers import AutoConfig, AutoModel, PreTrainedConfig

from mmrun.config.schema import ModelSection, StreamSection
from mmrun.errors import ConfigError
from mmrun.models.configuration import FRAMES, STREAM_KEYS, InputSpec
from mmrun.models.embedder import MultimodalEmbedderModel
from mmrun.models.extractor import encoder_alone
from mmrun.models.library import (
    known_keys,
    listed,
    read_model,
    read_pretrained,
    refusing,
    say_drawn,
)

logger = logging.getLogger(__name__)

_POOLER = "pooler."
"""What makes one vector of an image; files of models that name images often lack it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """How one input of frames is to be read."""

    name: str
    section: StreamSection
    own: frozenset[str]
    """The keys that stand in ``model.streams`` for it, and not in ``model`` itself."""
    encoder: Any = None
    """The pretrained feature extractor, or None."""
    extractor_config: PreTrainedConfig | None = None

    def key(self, name: str) -> str:
        """Return where the key ``name`` stands in the experiment file."""
        return f"model.streams.{self.name}.{name}" if name in self.own else f"model.{name}"

    def meant(self, name: str, *, of: str) -> bool:
        """Whether the key ``name`` is for this input, whose type ``of`` may be another's not."""
        return name in self.own or of not in self.own


def plan_streams(section: ModelSection, *, inputs: Sequence[InputSpec]) -> tuple[StreamPlan, ...]:
    """Return what leads each input of frames to the backbone; those of tokens need nothing."""
    _check_names(section, inputs=inputs)
    framed = [spec.name for spec in inputs if not spec.tokens]
    if not framed:
        _name_unused(section.model_fields_set & set(StreamSection.model_fields))
    return tuple(_plan(section, name=name) for name in framed)


def plan_keys(plans: Sequence[StreamPlan], *, inputs: Sequence[InputSpec]) -> dict[str, Any]:
    """Return the keys of the configuration: those of the first stream, and what others have."""
    keys = {plan.name: _keys(plan) for plan in plans}
    shared = next(iter(keys.values()), {})
    if tuple(inputs) == (FRAMES,):
        return shared
    streams = []
    for spec in inputs:
        own = keys.get(spec.name, shared)
        differs = {key: value for key, value in own.items() if value != shared[key]}
        if isinstance(given := differs.get("feature_extractor_config"), PreTrainedConfig):
            differs["feature_extractor_config"] = given.to_dict()
        names = {"name": spec.name, "mask": spec.mask, "tokens": spec.tokens}
        streams.append({**names, **differs})
    return {**shared, "streams": streams}


def fill_extractor(model: MultimodalEmbedderModel, plan: StreamPlan) -> None:
    """Give the feature extractor its pretrained weights, and see that it fits."""
    extractor, _ = model.parts(plan.name)
    if extractor is None:
        return
    if plan.encoder is not None:
        extractor.encoder.load_state_dict(plan.encoder.state_dict())
    with refusing(
        plan.key("feature_extractor_type"), hint="choose an encoder of images or of sound"
    ):
        extractor.encoder.eval()  # dropout would move the generators
        found = extractor.size()
        extractor.train(model.training)
    if found != plan.section.feat_dim:
        raise ConfigError(
            f"{plan.key('feat_dim')}: is {plan.section.feat_dim}, the feature extractor gives "
            f"{found} values",
            hint=f"set {plan.key('feat_dim')} to {found}",
        )


def check_width(plan: StreamPlan, *, size: int) -> None:
    """Refuse features that go to the backbone as they are, and are not of its size."""
    if plan.section.multimodal_mapper_type is None and plan.section.feat_dim != size:
        raise ConfigError(
            f"{plan.key('multimodal_mapper_type')}: is none, and {plan.key('feat_dim')} is "
            f"{plan.section.feat_dim}, not {size} as in the backbone",
            hint="choose a mapper, for instance linear",
        )


def _check_names(section: ModelSection, *, inputs: Sequence[InputSpec]) -> None:
    """Refuse keys for a stream that is not there, or that needs none."""
    names = {spec.name: spec for spec in inputs}
    for name in section.streams:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ConfigError(
                f"model.streams.{name}: the processor makes no such input"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"the inputs are {', '.join(names)}",
            )
        if names[name].tokens:
            raise ConfigError(
                f"model.streams.{name}: this input has tokens, which the backbone embeds itself",
                hint="remove it",
            )


def _plan(section: ModelSection, *, name: str) -> StreamPlan:
    own = section.streams.get(name)
    plan = StreamPlan(
        name=name,
        section=section.stream(name),
        own=frozenset(own.model_fields_set if own else ()),
    )
    _check_mapper(plan)
    encoder = _pretrained(plan)
    return StreamPlan(
        name=name,
        section=plan.section,
        own=plan.own,
        encoder=encoder,
        extractor_config=encoder.config if encoder else _extractor_config(plan),
    )


def _keys(plan: StreamPlan) -> dict[str, Any]:
    given = {key: getattr(plan.section, key) for key in STREAM_KEYS}
    return {**given, "feature_extractor_config": plan.extractor_config}


def _extractor_config(plan: StreamPlan) -> PreTrainedConfig | None:
    section = plan.section
    if section.feature_extractor_type is None:
        for key in ("feature_extractor_config", "pretrained_feature_extractor"):
            if getattr(section, key) and plan.meant(key, of="feature_extractor_type"):
                raise ConfigError(
                    f"{plan.key(key)}: there is no feature extractor",
                    hint="set model.feature_extractor_type, for instance clip",
                )
        return None
    key = plan.key("feature_extractor_type")
    with refusing(key, hint="clip, vit, dinov2, wav2vec2, whisper, ... of transformers"):
        defaults = AutoConfig.for_model(section.feature_extractor_type)
    given = known_keys(
        section.feature_extractor_config or {},
        known=defaults,
        key=plan.key("feature_extractor_config"),
    )
    with refusing(plan.key("feature_extractor_config")):
        config: PreTrainedConfig = AutoConfig.for_model(section.feature_extractor_type, **given)
    return config


def _pretrained(plan: StreamPlan) -> Any:
    section = plan.section
    name = section.pretrained_feature_extractor
    if name is None or section.feature_extractor_type is None:
        return None
    key = plan.key("pretrained_feature_extractor")
    config = read_pretrained(AutoConfig, name, key=key)
    changed = known_keys(
        section.feature_extractor_config or {},
        known=config,
        key=plan.key("feature_extractor_config"),
    )
    whole, lacking = read_model(AutoModel, name, key=key, **changed)
    new = {whole.get_parameter_or_buffer(lost) for lost in lacking}
    encoder = encoder_alone(whole)
    drawn = [name for name, weight in encoder.named_parameters() if weight in new]
    if section.freeze_feature_extractor and any(name.startswith(_POOLER) for name in drawn):
        raise ConfigError(
            f"{key}: lacks {listed(drawn)}, and {plan.key('freeze_feature_extractor')} would keep "
            "them as they are drawn",
            hint="train the feature extractor, or name a model that has them",
        )
    say_drawn(drawn, key=key)
    return encoder


def _check_mapper(plan: StreamPlan) -> None:
    """Refuse what contradicts the type of the mapper, and name what it does not use."""
    section = plan.section
    kind = section.multimodal_mapper_type
    if kind not in (None, "linear") and section.multimodal_mapper_factor is None:
        raise ConfigError(
            f"{plan.key('multimodal_mapper_factor')}: is not given, and the mapper is of the type "
            f"{kind}",
            hint="set how much wider its inner layer is, for instance 2",
        )
    kernels, strides = section.adapter_ksize or (3, 3), section.adapter_stride or (2, 2)
    if kind == "cnn_adapter" and len(kernels) != len(strides):
        raise ConfigError(
            f"{plan.key('adapter_stride')}: has {len(strides)} values, adapter_ksize has "
            f"{len(kernels)}",
            hint="give one stride for each kernel",
        )
    unused = {
        None: ("multimodal_mapper_factor", "adapter_ksize", "adapter_stride"),
        "linear": ("multimodal_mapper_factor", "adapter_ksize", "adapter_stride"),
        "adapter": ("adapter_ksize", "adapter_stride"),
    }.get(kind, ())
    given = [
        plan.key(key)
        for key in unused
        if getattr(section, key) is not None and plan.meant(key, of="multimodal_mapper_type")
    ]
    if given:
        logger.warning(
            "%s: without effect on a mapper of the type %s", ", ".join(given), kind or "none"
        )


def _name_unused(given: set[str]) -> None:
    if given:
        keys = ", ".join(f"model.{key}" for key in sorted(given))
        logger.warning("%s: without effect, the backbone embeds tokens itself", keys)
