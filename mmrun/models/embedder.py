"""The model: feature extractor (optional), mapper, and a sequence-to-sequence backbone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from mmrun.models.configuration import InputSpec, MultimodalEmbedderConfig
from mmrun.models.extractor import FeatureExtractor
from mmrun.models.lora import add_adapters, again, train_adapters_alone
from mmrun.models.mapper import Mapper
from mmrun.models.prompted import PromptedGenerationMixin
from mmrun.models.room import Room, require_positions, require_tokens
from mmrun.models.stream import Stream, mapped
from mmrun.models.ties import keep_apart
from mmrun.models.vectors import VectorCache

_IGNORED = -100


class MultimodalEmbedderModel(PreTrainedModel, PromptedGenerationMixin):
    """The encoder reads prompt, mapped frames and an end mark; the decoder writes text."""

    config_class = MultimodalEmbedderConfig
    config: MultimodalEmbedderConfig
    base_model_prefix = "multimodal_embedder"
    main_input_name = "input_frames"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: MultimodalEmbedderConfig) -> None:
        super().__init__(config)
        framed = [spec.name for spec in config.inputs if not spec.tokens]
        streams = {name: Stream(config.stream(name), size=config.backbone_size) for name in framed}
        self._first = next(iter(streams), None)
        first = streams.pop(self._first) if self._first else None
        self.feature_extractor = first.feature_extractor if first else None
        self.multimodal_mapper = first.multimodal_mapper if first else None
        self.other_streams = nn.ModuleDict(streams)
        self.backbone: Any = AutoModelForSeq2SeqLM.from_config(
            config.backbone_config,
            **({"attn_implementation": config.attention} if config.attention else {}),
        )
        keep_apart(self.backbone, config.untied or ())
        self.main_input_name = config.inputs[0].name
        self.post_init()
        # What a part never trains: sinusoids that it keeps as parameters, for instance.
        self._constant = {
            name for name, weight in self.named_parameters() if not weight.requires_grad
        }
        if config.lora:
            add_adapters(self.backbone, again(config.lora))
        # The Trainer compares these with what a checkpoint lacks: tied weights are there once.
        self._keys_to_ignore_on_save = set(self.all_tied_weights_keys)
        self.freeze()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Read a saved model; loading makes new parameters, so they are frozen again."""
        found: Any = super().from_pretrained(*args, **kwargs)
        model = found[0] if isinstance(found, tuple) else found
        model.freeze()
        return found

    def freeze(self) -> None:
        """Take the parts that the configuration names out of training."""
        config, backbone = self.config, self.backbone
        parts: list[tuple[bool, nn.Module | None]] = [
            (config.freeze_backbone, backbone),
            (config.freeze_encoder_embed_tokens, backbone.get_encoder().get_input_embeddings()),
            (config.freeze_decoder_embed_tokens, backbone.get_decoder().get_input_embeddings()),
            (config.freeze_lm_head, backbone.get_output_embeddings()),
        ]
        for name in self._framed():
            stream = config.stream(name)
            extractor, mapper = self.parts(name)
            if extractor is not None:  # whatever was kept is of other weights, perhaps
                limit = config.cache_frozen_mb
                extractor.cache = VectorCache(limit * 2**20) if limit else None
            parts.append((stream.freeze_feature_extractor, extractor))
            parts.append((stream.freeze_multimodal_mapper, mapper))
        for name, weight in self.named_parameters():
            weight.requires_grad_(name not in self._constant)
        if config.lora:
            train_adapters_alone(backbone)
            parts = [(frozen, part) for frozen, part in parts if part is not backbone]
        for frozen, part in parts:
            if frozen and part is not None:
                part.requires_grad_(requires_grad=False)

    def adapt(self, lora: Mapping[str, Any]) -> None:
        """Put new adapters into the backbone; from now on they are trained in its place."""
        add_adapters(self.backbone, lora)
        self.config.lora = dict(lora)
        self.freeze()

    def parts(self, name: str) -> tuple[FeatureExtractor | None, Mapper]:
        """Return feature extractor and mapper of the input of frames ``name``."""
        stream: Any = self if name == self._first else self.other_streams[name]
        return stream.feature_extractor, stream.multimodal_mapper

    @property
    def room(self) -> Room:
        """How long a row and its text may be."""
        return Room.of(
            self.get_encoder(),
            self.get_decoder(),
            streams=[self.parts(name) for name in self._framed()],
            inputs=len(self.config.inputs),
        )

    def _framed(self) -> list[str]:
        return [spec.name for spec in self.config.inputs if not spec.tokens]

    def _init_weights(self, module: nn.Module) -> None:
        """Start the mapper as torch does; the other parts know how they start themselves."""
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            initialization.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                inputs = module.weight[0].numel()
                initialization.uniform_(module.bias, -(inputs**-0.5), inputs**-0.5)
        elif isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)

    def get_encoder(self, modality: str | None = None) -> Any:
        """Return the backbone's encoder."""
        return self.backbone.get_encoder() if modality is None else None

    def get_decoder(self) -> Any:
        """Return the backbone's decoder."""
        return self.backbone.get_decoder()

    def get_input_embeddings(self) -> nn.Module:
        """Return the backbone's table of tokens."""
        table: nn.Module = self.backbone.get_input_embeddings()
        return table

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer that scores the tokens."""
        layer: nn.Module = self.backbone.get_output_embeddings()
        return layer

    def forward(  # noqa: PLR0917 (as transformers calls it)
        self,
        input_frames: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_prompt: Tensor | None = None,
        encoder_prompt_length_padding_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        num_items_in_batch: Tensor | int | None = None,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Score the next tokens.

        Args:
            input_frames: ``[B, T, D]``, ``[B, T, C, H, W]`` for a feature extractor, or ids
                ``[B, T]``; an input of another name is given under its own.
            attention_mask: which frames are real ``[B, T]``; with ``encoder_outputs``, which of
                their positions are.
            encoder_prompt: ids ``[B, P]`` that the encoder reads before the frames.
            encoder_prompt_length_padding_mask: which of these are real.
            decoder_input_ids: prompts, or what was generated so far; with ``labels`` they are not
                used, because labels begin with the prompt.
            decoder_attention_mask: which of these are real.
            labels: ids ``[B, L]``, -100 where nothing counts.
            encoder_outputs: what ``encode`` gave before.
            past_key_values: the decoder's cache.
            num_items_in_batch: by how many labels the sum of the losses is divided, when a step
                has several batches; else by those of this batch.
            label_smoothing: the share of the target that is spread over all tokens.
            **kwargs: the tensors of other inputs; the rest goes to the backbone.
        """
        names = {name for spec in self.config.inputs for name in (spec.name, spec.mask)}
        given = {name: kwargs.pop(name) for name in names & kwargs.keys()}
        if encoder_outputs is None:
            encoder_outputs, attention_mask = self.encode(
                {"input_frames": input_frames, "attention_mask": attention_mask, **given},
                encoder_prompt=encoder_prompt,
                encoder_prompt_length_padding_mask=encoder_prompt_length_padding_mask,
            )
        if labels is not None:
            require_tokens(labels.shape[1], decoder=self.get_decoder())
            decoder_input_ids, decoder_attention_mask = self._shifted(labels), None
            kwargs["use_cache"] = False
        outputs: Seq2SeqLMOutput = self.backbone(
            encoder_outputs=encoder_outputs,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )
        if labels is not None and outputs.logits is not None:
            loss = token_loss(
                outputs.logits, labels, items=num_items_in_batch, label_smoothing=label_smoothing
            )
            outputs.loss = self._reachable(loss)
        return outputs

    def _reachable(self, loss: Tensor) -> Tensor:
        """Return a loss that has gradients, be they zero.

        Layer drop may leave out every layer of a frozen decoder, and with it the way back.
        """
        parts = (self.backbone.get_encoder(), self.backbone.get_decoder())
        dropped = self.training and any(getattr(part, "layerdrop", 0.0) for part in parts)
        if loss.requires_grad or not (dropped and torch.is_grad_enabled()):
            return loss
        trained = [weight.sum() for weight in self.parameters() if weight.requires_grad]
        return loss + 0.0 * torch.stack(trained).sum() if trained else loss

    def encode(
        self,
        inputs: Mapping[str, Tensor | None],
        *,
        encoder_prompt: Tensor | None = None,
        encoder_prompt_length_padding_mask: Tensor | None = None,
    ) -> tuple[BaseModelOutput, Tensor]:
        """Return the encoder's outputs, and which of their positions are real.

        Args:
            inputs: The tensors of all inputs and their masks, by name; without a mask all is real.
            encoder_prompt: As in ``forward``.
            encoder_prompt_length_padding_mask: As in ``forward``.
        """
        parts = [self._positions(spec, inputs) for spec in self.config.inputs]
        if encoder_prompt is not None:
            mask = encoder_prompt_length_padding_mask
            mask = torch.ones_like(encoder_prompt) if mask is None else mask
            parts.insert(0, (self._embedded(encoder_prompt), mask))
        mask = parts[0][1]
        end = mask.new_full((len(mask), 1), self._one_eos(), dtype=torch.long)
        parts.append((self._embedded(end), torch.ones_like(end)))
        positions, mask = packed([(part.to(parts[-1][0].dtype), mask) for part, mask in parts])
        encoder = self.backbone.get_encoder()
        require_positions(positions.shape[1], encoder=encoder)
        if not positions.requires_grad and getattr(encoder, "gradient_checkpointing", False):
            # Layers that are computed again may give gradients only where an input has them.
            positions = positions.requires_grad_(torch.is_grad_enabled())
        return encoder(inputs_embeds=positions, attention_mask=mask), mask

    def _positions(
        self, spec: InputSpec, inputs: Mapping[str, Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Return the positions that the encoder reads of one input, and which are real."""
        given, mask = inputs.get(spec.name), inputs.get(spec.mask)
        if given is None:
            raise ValueError(f"{spec.name} or encoder_outputs must be given")
        if mask is None:
            mask = given.new_ones(given.shape[:2], dtype=torch.long)
        if spec.tokens:
            return self._embedded(given), mask
        extractor, mapper = self.parts(spec.name)
        return mapped(given, mask, extractor=extractor, mapper=mapper)

    def _embedded(self, ids: Tensor) -> Tensor:
        encoder = self.backbone.get_encoder()
        embedded: Tensor = encoder.get_input_embeddings()(ids)
        return embedded * getattr(encoder, "embed_scale", 1.0)

    def _shifted(self, labels: Tensor) -> Tensor:
        """Return what the decoder reads when it is to write ``labels``."""
        shifted = labels.roll(1, dims=1).masked_fill(labels.roll(1, dims=1) == _IGNORED, self._pad)
        shifted[:, 0] = self._start
        return shifted

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return what the decoder reads when it is to write ``labels``."""
        return self._shifted(labels)


def packed(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join positions ``[B, T, C]`` with masks ``[B, T]``, so that no gap is between real ones.

    Without gaps the position numbers of a sample do not depend on the others in its batch.
    """
    positions = torch.cat([part for part, _ in parts], dim=1)
    mask = torch.cat([mask for _, mask in parts], dim=1)
    if bool(mask.all()):
        return positions, mask
    order = mask.argsort(dim=1, descending=True, stable=True)[:, : int(mask.sum(dim=1).max())]
    chosen = order[:, :, None].expand(-1, -1, positions.shape[2])
    return positions.gather(1, chosen), mask.gather(1, order)


def token_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    items: Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the mean cross entropy of the labels that count, padding or none."""
    total = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=_IGNORED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    count = (labels != _IGNORED).sum() if items is None else torch.as_tensor(items)
    # Where every sample was skipped nothing counts, and the sum is zero.
    return total / count.clamp(min=1).to(total.device)
