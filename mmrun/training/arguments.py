"""From an experiment to the arguments of the Hugging Face Trainer."""

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments, Trainer
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from mmrun.config.schema import Experiment
from mmrun.errors import ConfigError
from mmrun.training.metrics import check_metrics, greater_is_better, key_of, keys_of
from mmrun.training.processes import Launched
from mmrun.training.refused import refuse_impossible
from mmrun.training.unused import say_unused

logger = logging.getLogger(__name__)

REFUSALS = (ValueError, TypeError, ImportError, RuntimeError)
"""What transformers and torch raise for arguments that they do not take."""
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
    refuse_impossible(given)
    say_unused(given)
    if given.get("fp16") and not _has_accelerator():
        logger.warning("without effect: training.fp16 (there is no accelerator)")
    try:
        arguments = Seq2SeqTrainingArguments(
            **{**defaults, **given, **_selection(given, evaluates=evaluates)},
            **RESERVED,
            output_dir=str(output_dir / "train"),
            run_name=experiment.training.run_name,
            report_to=list(experiment.training.report_to) or "none",
        )
        trackers = get_reporting_integration_callbacks(arguments.report_to)  # type: ignore[no-untyped-call]
        for tracker in trackers:
            tracker()  # it says here what it needs, before there is a run
    except REFUSALS as error:
        raise refusal(error) from error
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


def check_optimizer(arguments: Seq2SeqTrainingArguments, model: Any) -> None:
    """Refuse an optimizer that cannot be made: its package is missing, or it needs options.

    Raises:
        ConfigError: with what transformers says of it.
    """
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    except REFUSALS as error:
        raise refusal(error) from error


def refusal(error: Exception) -> ConfigError:
    """Return what a library says of an argument, as an error of the experiment file."""
    return ConfigError(
        f"training: {' '.join(str(error).split())}",
        hint="change that argument in the file or on the command line",
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
    if evaluates and wanted != "loss" and not (scored and key_of(wanted) in keys_of(names)):
        problem = f"training.metric_for_best_model: {wanted!r} is never computed"
        if key_of(wanted) in keys_of(names):
            hint = "set predict_with_generate: true, so that text is generated and scored"
        elif wanted in names:  # a metric of several values
            hint = f"use one of its values: {', '.join(keys_of([wanted]))}"
        else:
            hint = f"use loss, or add {wanted} to metric_name (with predict_with_generate: true)"
        raise ConfigError(problem, hint=hint)
    if evaluates and names and not scored:
        logger.info(
            "training.metric_name: %s are for 'mmrun generate' only, unless predict_with_generate "
            "is true",
            ", ".join(names),
        )
    if scored and experiment.generation.options:
        logger.info(
            "%s: for 'mmrun generate' only; evaluations take max_length and num_beams",
            ", ".join(f"generation.{name}" for name in experiment.generation.options),
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
