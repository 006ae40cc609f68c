"""What an experiment is: one frozen tree, complete once validated.

The keys of `model`, `data`, `processor`, `setup` and `training` are those of the multimodalhugs
0.5 configuration files, so that its users bring theirs along.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Scalar = str | int | float | bool | None


class Section(BaseModel):
    """A part of the experiment file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class StreamSection(Section):
    """What leads one input to the backbone: feature extractor (optional) and mapper."""

    feature_extractor_type: str | None = None
    pretrained_feature_extractor: str | None = None
    feature_extractor_config: Mapping[str, Any] | None = None
    multimodal_mapper_type: Literal["linear", "adapter", "cnn_adapter"] | None = "linear"
    """None: features are as wide as the backbone, and go there as they are."""
    multimodal_mapper_layer_norm_before: bool = False
    multimodal_mapper_layer_norm: bool = False
    multimodal_mapper_activation: bool = False
    multimodal_mapper_factor: PositiveInt | None = None
    multimodal_mapper_dropout: float | None = Field(default=None, ge=0, lt=1)
    adapter_ksize: tuple[PositiveInt, ...] | None = None
    adapter_stride: tuple[PositiveInt, ...] | None = None
    feat_dim: PositiveInt = 512
    freeze_feature_extractor: bool = False
    freeze_multimodal_mapper: bool = False


class ModelSection(StreamSection):
    """The multimodal embedder: one stream or several, and a backbone."""

    type: Literal["multimodal_embedder"] = "multimodal_embedder"
    streams: Mapping[str, StreamSection] = Field(default_factory=dict)
    """What differs in a stream, by the name of its slot (``output_data_key``)."""
    backbone_type: str = "m2m_100"
    pretrained_backbone: str | None = None
    backbone_config: Mapping[str, Any] | None = None
    max_length: PositiveInt = 1024
    use_backbone_max_length: bool = False
    """Whether the backbone, where it knows a length, says it in place of ``max_length``."""
    freeze_backbone: bool = False
    freeze_encoder_embed_tokens: bool = False
    freeze_decoder_embed_tokens: bool = False
    freeze_lm_head: bool = False
    cache_frozen_mb: PositiveInt | None = None
    """How much memory holds the vectors of images that a frozen feature extractor has seen."""
    lora: Mapping[str, Any] | None = None
    """Fields of peft's ``LoraConfig``: adapters are trained in place of the backbone."""

    def stream(self, name: str) -> StreamSection:
        """Return what holds for the stream ``name``: its own keys before those of all."""
        shared = {key: getattr(self, key) for key in self.model_fields_set & _STREAM_KEYS}
        own = self.streams.get(name, StreamSection())
        return StreamSection(**{**shared, **own.model_dump(exclude_unset=True)})


_STREAM_KEYS = frozenset(StreamSection.model_fields)


class DataSection(Section):
    """Which samples, and how to read them."""

    dataset_type: str | None = None
    train_metadata_file: Path | None = None
    validation_metadata_file: Path | None = None
    test_metadata_file: Path | None = None
    max_frames: PositiveInt | None = None
    min_frames: PositiveInt | None = None
    max_length: PositiveInt | None = None
    """Rows whose text to write has more tokens, prompt and end included, are left out."""
    signal_start_end_unit: Literal["milliseconds", "frames"] | None = None
    """Of every input with spans that does not say it in its own settings."""
    pad_to_multiple_of: PositiveInt | None = None
    """Signals and labels of a batch are filled up to a multiple of this length."""
    on_bad_sample: Literal["error", "skip"] = "error"
    cache: Literal["off", "memory", "disk"] = "memory"
    cache_size_mb: PositiveInt | None = None
    """Of the memory of each process that loads (256), or of the folder that all share (10,240)."""
    cache_dir: Path | None = None
    max_train_samples: PositiveInt | None = None
    max_eval_samples: PositiveInt | None = None
    max_predict_samples: PositiveInt | None = None

    def manifest(self, split: Split) -> Path | None:
        """Return the TSV of ``split``."""
        path: Path | None = getattr(self, f"{split}_metadata_file")
        return path


class ProcessorSection(Section):
    """How a row becomes tensors."""

    pipeline: str | None = None
    slots: tuple[Mapping[str, Any], ...] | None = None
    tokenizer_path: str | None = None
    new_vocabulary: str | None = None
    modality_kwargs: Mapping[str, Any] = Field(default_factory=dict)


class SetupSection(Section):
    """Which actors `mmrun setup` makes, and where; none chosen means all."""

    output_dir: Path | None = None
    do_dataset: bool = False
    do_processor: bool = False
    do_model: bool = False
    update_config: bool = False
    check_files: bool = False
    """Whether every file is read to its end, to find what is wrong before training."""
    seed: NonNegativeInt = 42


class TrainingSection(Section):
    """Arguments of the Hugging Face trainer as they are given, and the few that are mmrun's own.

    ``arguments`` holds only what the file or the command line gave, by the field names of the
    installed ``Seq2SeqTrainingArguments``; every other argument has the default of transformers.
    """

    output_dir: Path | None = None
    run_name: str | None = None
    metric_name: tuple[str, ...] = ()
    early_stopping_patience: PositiveInt | None = None
    average_last: PositiveInt | None = None
    overwrite_output_dir: bool = False
    save_total_limit: PositiveInt | None = None
    report_to: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = Field(default_factory=dict)


class GenerationSection(Section):
    """Arguments of ``generate``; ``options`` are fields of transformers' ``GenerationConfig``."""

    max_length: PositiveInt | None = None
    num_beams: PositiveInt | None = None
    options: Mapping[str, Any] = Field(default_factory=dict)


class TrackingSection(Section):
    """Where the run is recorded, and what is kept there."""

    uri: str | None = None
    experiment: str = "mmrun"
    run_name: str | None = None
    log_checkpoints: bool = True
    keep_last: PositiveInt = 2
    keep_best: NonNegativeInt = 1
    on_server_loss: Literal["continue", "fail"] = "continue"
    server_loss_s: PositiveFloat = 600
    grace_s: PositiveFloat = 90


class Experiment(Section):
    """Everything that decides the outcome of a run."""

    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    processor: ProcessorSection = ProcessorSection()
    setup: SetupSection = SetupSection()
    training: TrainingSection = TrainingSection()
    generation: GenerationSection = GenerationSection()
    tracking: TrackingSection = TrackingSection()
    task: Literal["translation"] = "translation"
