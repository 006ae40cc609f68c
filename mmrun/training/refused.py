"""Training arguments that cannot be: refused before a run is opened, and in a dry run; no torch."""

from collections.abc import Mapping
from typing import Any

from mmrun.errors import ConfigError
from mmrun.training.schedule_options import check_schedule

SAMPLING = ("random", "sequential", "group_by_length")
SHARDING = ("fsdp", "deepspeed")
_RANGES: Mapping[str, tuple[float, float]] = {
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, float("inf")),
    "dataloader_num_workers": (0, float("inf")),
    "gradient_accumulation_steps": (1, float("inf")),
    "label_smoothing_factor": (0, 1),
    "learning_rate": (0, float("inf")),
    "max_grad_norm": (0, float("inf")),
    "num_train_epochs": (0, float("inf")),
    "per_device_eval_batch_size": (1, float("inf")),
    "per_device_train_batch_size": (1, float("inf")),
    "warmup_steps": (0, float("inf")),
    "weight_decay": (0, float("inf")),
}
"""From the least value to the first that is too large; torch finds out when the run is open."""


def refuse_impossible(given: Mapping[str, Any]) -> None:
    """Refuse values out of range, and what mmrun cannot keep its promise with.

    Raises:
        ConfigError: naming the argument.
    """
    _refuse_out_of_range(given)
    _refuse_inexact(given)
    _refuse_sharding(given)
    _refuse_noise(given)
    check_schedule(given)


def _refuse_out_of_range(given: Mapping[str, Any]) -> None:
    for name, (least, end) in _RANGES.items():
        value = given.get(name)
        if value is not None and not least <= value < end:
            bounds = f"at least {least:g}" + (f" and below {end:g}" if end <= 1 else "")
            raise ConfigError(
                f"training.{name}: must be {bounds}, not {value}",
                hint=f"mmrun train --help-training {name}",
            )


def _refuse_inexact(given: Mapping[str, Any]) -> None:
    if given.get("auto_find_batch_size"):
        raise ConfigError(
            "training.auto_find_batch_size: a batch size that depends on the memory of the machine "
            "cannot be resumed exactly",
            hint="find it once, and write it as per_device_train_batch_size",
        )
    if given.get("batch_eval_metrics"):
        raise ConfigError(
            "training.batch_eval_metrics: scores are of all predictions together, not of batches",
            hint="leave it out",
        )
    strategy = str(given.get("train_sampling_strategy", "random"))
    if strategy not in SAMPLING:
        raise ConfigError(
            f"training.train_sampling_strategy: {strategy!r} cannot be resumed exactly",
            hint=f"use one of: {', '.join(SAMPLING)}",
        )


def _refuse_sharding(given: Mapping[str, Any]) -> None:
    for key in SHARDING:
        if given.get(key):
            raise ConfigError(
                f"training.{key} divides the state of a training among processes, which no "
                "checkpoint of mmrun holds",
                hint="leave it out: with torchrun each process has the whole model",
            )


def _refuse_noise(given: Mapping[str, Any]) -> None:
    # The Trainer puts it on the table that is shared; encoder and decoder read layers of their own.
    if given.get("neftune_noise_alpha"):
        raise ConfigError(
            "training.neftune_noise_alpha: the noise would not reach the embeddings of this model",
            hint="leave it out",
        )


def refuse_empty_epoch(*, samples: int, batch: int, drop_last: bool) -> None:
    """Refuse a batch that is never full, where only full ones are trained on.

    Args:
        samples: How many there are to train on.
        batch: How many of them make a batch, over all processes.
        drop_last: Whether a batch that is not full is left out.

    Raises:
        ConfigError: if no batch is left.
    """
    if drop_last and samples < batch:
        raise ConfigError(
            f"training.dataloader_drop_last leaves nothing: {batch} samples make a batch, and the "
            f"train split has {samples}",
            hint="lower per_device_train_batch_size, or set dataloader_drop_last to false",
        )
