"""Names that other versions knew: translated, without effect, or refused; no I/O.

Two sources: arguments that transformers 5 dropped, and keys of multimodalhugs 0.5 configuration
files. A name that the installed transformers knows is never translated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """The name that took the place of a dropped one."""

    name: str
    """In the same section; dotted where it lies deeper."""
    when_true: Any = None
    """What a dropped switch means for it; ``None`` where the value itself goes over."""
    ratio: bool = False
    """Whether the value is a share, which the successor takes where it is below 1."""


_OF_A_MODALITY = (
    "channels",
    "custom_preprocessor_path",
    "font_path",
    "height",
    "invert_frame",
    "join_chw",
    "mean",
    "normalize_image",
    "reduce_holistic_poses",
    "skip_frames_stride",
    "std",
    "temporal_dimension_position",
    "use_cache",
    "width",
)
"""What stood in the processor section itself before there were slots."""

RENAMED: Mapping[str, Mapping[str, Successor]] = {
    "processor": {
        "text_tokenizer_path": Successor(name="tokenizer_path"),
        **{name: Successor(name=f"modality_kwargs.{name}") for name in _OF_A_MODALITY},
    },
    "training": {
        "adafactor": Successor(name="optim", when_true="adafactor"),
        "evaluation_strategy": Successor(name="eval_strategy"),
        "group_by_length": Successor(name="train_sampling_strategy", when_true="group_by_length"),
        "include_inputs_for_metrics": Successor(name="include_for_metrics", when_true=["inputs"]),
        "include_tokens_per_second": Successor(
            name="include_num_input_tokens_seen", when_true="all"
        ),
        "no_cuda": Successor(name="use_cpu"),
        "per_gpu_eval_batch_size": Successor(name="per_device_eval_batch_size"),
        "per_gpu_train_batch_size": Successor(name="per_device_train_batch_size"),
        "push_to_hub_token": Successor(name="hub_token"),
        "torchdynamo": Successor(name="torch_compile_backend"),
        "warmup_ratio": Successor(name="warmup_steps", ratio=True),
        "xpu_backend": Successor(name="ddp_backend"),
    },
}
"""Names by section that have a successor, which may lie deeper in the section."""

_ALWAYS = "the command says what is done"
_HARDWARE = "transformers 5 finds the hardware itself"
_PRECISION = "transformers 5 has one implementation of mixed precision"
_NO_PRINTING = "'mmrun generate' writes the predictions to files"
_FSDP = "write it in training.fsdp_config"
_ACCELERATOR = "write it in training.accelerator_config"
_ACTORS = "mmrun finds what 'mmrun setup' made; --setup_path names another place"
_FROM_TOKENIZER = "taken from the tokenizer"
_FROM_BACKBONE = "taken from the backbone"
_NEVER = "nothing reads it"
_SIGNALS = "mmrun saves a last checkpoint on SIGTERM, SIGUSR1 and Ctrl-C itself"
_NO_HUB = "checkpoints go to MLflow; push one from there"
_HUB = "write it into the environment of the Hugging Face hub"

WITHOUT_EFFECT: Mapping[str, Mapping[str, str]] = {
    "data": {
        "dataset_dir": _ACTORS,
        "ignore_pad_token_for_loss": "padding never counts in the loss",
        "name": "mmrun has no use for a name of the data set",
        "preload_features": "files are read while training, in the loader's workers",
        "remove_unused_columns": "the data set holds what the manifest holds",
        "shuffle": "training.train_sampling_strategy and training.seed decide the order",
    },
    "model": {
        "backbone_tied_weights_keys": _FROM_BACKBONE,
        "backbone_used_vocab_size": _FROM_BACKBONE,
        "bos_token_id": _FROM_TOKENIZER,
        "cache_dir": _HUB,
        "config_name": _ACTORS,
        "d_model": _FROM_BACKBONE,
        "decoder_start_token_id": _FROM_TOKENIZER,
        "eos_token_id": _FROM_TOKENIZER,
        "freeze_lang_embeddings": _NEVER,
        "init_lang_abbr": _NEVER,
        "is_encoder_decoder": "always true",
        "model_name_or_path": _ACTORS,
        "model_revision": _HUB,
        "model_type": "model.type says it",
        "name": "mmrun has no use for a name of the model",
        "no_scale_embedding": _NEVER,
        "num_labels": _NEVER,
        "pad_token_id": _FROM_TOKENIZER,
        "token": _HUB,
        "vl_factor": "write it as model.multimodal_mapper_factor",
    },
    "processor": {"processor_name_or_path": _ACTORS},
    "setup": {
        "config_path": "given on the command line",
        "rebuild_dataset_from_scratch": "given on the command line",
    },
    "training": {
        "dispatch_batches": _ACCELERATOR,
        "do_eval": "training.eval_strategy says whether there is evaluation",
        "do_predict": _ALWAYS,
        "do_train": _ALWAYS,
        "enable_jit_checkpoint": _SIGNALS,
        "fp16_backend": _PRECISION,
        "fp16_opt_level": _PRECISION,
        "fsdp_min_num_params": _FSDP,
        "fsdp_transformer_layer_cls_to_wrap": _FSDP,
        "half_precision_backend": _PRECISION,
        "jit_mode_eval": "dropped by transformers 5; see training.torch_compile",
        "logging_dir": "dropped by transformers 5; see the variable TENSORBOARD_LOGGING_DIR",
        "mp_parameters": "dropped by transformers 5",
        "past_index": "dropped by transformers 5",
        "print_decoder_prompt_on_prediction": _NO_PRINTING,
        "print_special_tokens_on_prediction": _NO_PRINTING,
        "hub_always_push": _NO_HUB,
        "hub_model_id": _NO_HUB,
        "hub_private_repo": _NO_HUB,
        "hub_revision": _NO_HUB,
        "hub_strategy": _NO_HUB,
        "push_to_hub": _NO_HUB,
        "push_to_hub_model_id": _NO_HUB,
        "push_to_hub_organization": _NO_HUB,
        "ray_scope": "dropped by transformers 5; see the variable RAY_SCOPE",
        "restore_callback_states_from_checkpoint": "callbacks always go on where they were",
        "save_safetensors": "weights are always saved as safetensors",
        "split_batches": _ACCELERATOR,
        "tp_size": "dropped by transformers 5; see training.parallelism_config",
        "tpu_metrics_debug": "write it in training.debug",
        "tpu_num_cores": "dropped by transformers 5; see the variable TPU_NUM_CORES",
        "use_ipex": _HARDWARE,
        "use_legacy_prediction_loop": "dropped by transformers 5",
        "use_mps_device": _HARDWARE,
        "visualize_prediction_prob": _NO_PRINTING,
    },
    "generation": {"generate_output_dir": "predictions go to OUTPUT_DIR/generate"},
}
"""Keys by section that change nothing here, each with the reason."""

_OWN = {
    "do_train",
    "do_eval",
    "do_predict",
    "enable_jit_checkpoint",
    "hub_always_push",
    "hub_model_id",
    "hub_private_repo",
    "hub_revision",
    "hub_strategy",
    "push_to_hub",
    "restore_callback_states_from_checkpoint",
}
"""Known to transformers, and yet without effect here."""

REFUSED: Mapping[str, Mapping[str, str]] = {
    "data": {
        "max_source_tokens": "it counted words; data.max_frames counts the tokens of a text",
    },
    "model": {
        "trust_remote_code": "mmrun runs no code from a model's repository",
    },
    "setup": {"modality": "write it as data.dataset_type"},
    "training": {
        "resume_from_checkpoint": "a reference is given on the command line, never in the file",
    },
}
"""Keys that would change the outcome and that mmrun cannot honour."""

_HARMLESS = frozenset({"none", "null", "false", ""})


def without_effect(section: str, name: str, *, installed: Mapping[str, Any]) -> str | None:
    """Return why ``name`` does nothing, or ``None`` when it may do something."""
    if section == "training" and name in installed and name not in _OWN:
        return None
    return WITHOUT_EFFECT.get(section, {}).get(name)


def refused(section: str, name: str, value: Any) -> str | None:
    """Return why ``name`` cannot be honoured, or ``None``; the value that changes nothing can."""
    reason = REFUSED.get(section, {}).get(name)
    return None if str(value).lower() in _HARMLESS else reason


def unwanted(section: str, name: str) -> bool:
    """Return whether ``name`` may stand there only with a value that changes nothing."""
    return name in REFUSED.get(section, {})


def successor(section: str, name: str, *, installed: Mapping[str, Any]) -> Successor | None:
    """Return what took the place of ``name``, if something did and it is not there any more."""
    found = RENAMED.get(section, {}).get(name)
    if found is None or section != "training":
        return found
    return found if name not in installed and found.name in installed else None


def known_elsewhere(section: str) -> frozenset[str]:
    """Return every name of ``section`` that this module has something to say about."""
    tables: tuple[Mapping[str, Mapping[str, Any]], ...] = (WITHOUT_EFFECT, REFUSED, RENAMED)
    return frozenset(name for table in tables for name in table.get(section, {}))
