"""From an experiment to the arguments of the Hugging Face Trainer."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments

from mmrun.config.schema import Experiment
from mmrun.errors import ConfigError
from mmrun.training.metrics import check_metrics, greater_is_better, key_of
from mmrun.training.processes import Launched
from mmrun.training.schedule_options import check_schedule
from mmrun.training.unused import say_unused

logger = logging.getLogger(__name__)

SAMPLING = ("random", "sequential", "group_by_length")
SHARDING = ("fsdp", "deepspeed")
RESERVED: Mapping[str, Any] = {
    "save_total_limit": None,  # mmrun rotates
    "remove_unused_columns": False,  # the collator reads columns that are not in forward()
    "restore_callback_states_from_checkpoint": False,  # it would bring old arguments back too
}


def build_arguments(experiment: Experiment, *, output_dir: Path) -> Seq2SeqTrainingArguments:
    """Return the Trainer's arguments for a run in ``output_dir``.

    Raises:
        ConfigError: if transformers refuses a value, or two that contradict each other.
    """
    given = dict(experiment.training.arguments)
    evaluates = str(given.get("eval_strategy", "no")) != "no"
    _refuse_missing_evaluation(experiment, evaluates=evaluates)
    _check_scores(experiment, evaluates=evaluates)
    launched = Launched.of(os.environ)
    defaults = {
        # On a CPU the Trainer must be told so: several processes would train apart otherwise.
        **({"use_cpu": True} if launched.several and not _has_accelerator() else {}),
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": _has_accelerator(),
        "label_names": ["labels"],  # found by name otherwise, and label_smoothing is one too then
        **_generation(experiment),
    }
    _refuse_inexact(given)
    check_schedule(given)
    say_unused(given)
    _refuse_sharding(given)
    try:
        arguments = Seq2SeqTrainingArguments(
            **{**defaults, **given, **_selection(given, evaluates=evaluates)},
            **RESERVED,
            output_dir=str(output_dir / "train"),
            run_name=experiment.training.run_name,
            report_to=list(experiment.training.report_to) or "none",
        )
    except (ValueError, TypeError, ImportError) as error:
        raise ConfigError(
            f"training: {' '.join(str(error).split())}",
            hint="change that argument in the file or on the command line",
        ) from error
    _check_processes(arguments, started=launched.size)
    return arguments


def _refuse_missing_evaluation(experiment: Experiment, *, evaluates: bool) -> None:
    if evaluates and experiment.data.validation_metadata_file is None:
        raise ConfigError(
            "training.eval_strategy asks for evaluation, but data has no validation_metadata_file",
            hint="name the validation split, or set eval_strategy: no",
        )
    for key in ("early_stopping_patience", "metric_for_best_model", "load_best_model_at_end"):
        section = experiment.training
        value = getattr(section, key, None) or section.arguments.get(key)
        if value and not evaluates:
            raise ConfigError(
                f"training.{key} needs evaluation, but training.eval_strategy is 'no'",
                hint="set eval_strategy: steps (or epoch), or leave the key out",
            )


def _refuse_inexact(given: Mapping[str, Any]) -> None:
    if given.get("auto_find_batch_size"):
        raise ConfigError(
            "training.auto_find_batch_size: a batch size that depends on the memory of the machine "
            "cannot be resumed exactly",
            hint="find it once, and write it as per_device_train_batch_size",
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


def _check_processes(arguments: Seq2SeqTrainingArguments, *, started: int) -> None:
    if arguments.world_size != started:
        raise ConfigError(
            f"{started} processes were started, and the Trainer sees {arguments.world_size}",
            hint="set training.use_cpu: true where there is no accelerator",
        )


def _check_scores(experiment: Experiment, *, evaluates: bool) -> None:
    """Refuse metrics that are unknown, and a choice by one that would never be computed."""
    names, given = experiment.training.metric_name, experiment.training.arguments
    check_metrics(names)
    wanted = str(given.get("metric_for_best_model") or "eval_loss").removeprefix("eval_")
    scored = evaluates and bool(given.get("predict_with_generate"))
    if evaluates and wanted not in {"loss", *(names if scored else ())}:
        problem = f"training.metric_for_best_model: {wanted!r} is never computed"
        if wanted in names:
            hint = "set predict_with_generate: true, so that text is generated and scored"
        else:
            hint = f"use loss, or add {wanted} to metric_name (with predict_with_generate: true)"
        raise ConfigError(problem, hint=hint)
    if evaluates and names and not scored:
        logger.info(
            "training.metric_name: %s are for 'mmrun generate' only, unless predict_with_generate "
            "is true",
            ", ".join(names),
        )


def _selection(given: Mapping[str, Any], *, evaluates: bool) -> dict[str, Any]:
    if not evaluates:
        return {}
    name = str(given.get("metric_for_best_model") or "eval_loss").removeprefix("eval_")
    better = given.get("greater_is_better")
    return {
        "metric_for_best_model": f"eval_{key_of(name)}",
        "greater_is_better": greater_is_better(name) if better is None else better,
    }


def _generation(experiment: Experiment) -> dict[str, Any]:
    generation = experiment.generation
    wanted = {
        "generation_max_length": generation.max_length,
        "generation_num_beams": generation.num_beams,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _has_accelerator() -> bool:
    import torch

    return bool(torch.accelerator.is_available())
