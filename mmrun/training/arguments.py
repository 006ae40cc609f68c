"""From an experiment to the arguments of the Hugging Face Trainer."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainingArguments

from mmrun.config.schema import Experiment
from mmrun.errors import ConfigError
from mmrun.training.metrics import greater_is_better

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
    defaults = {
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": _has_accelerator(),
        "label_names": ["labels"],  # found by name otherwise, and label_smoothing is one too then
        **_selection(given, evaluates=evaluates),
        **_generation(experiment),
    }
    try:
        return Seq2SeqTrainingArguments(
            **{**defaults, **given},
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


def _selection(given: Mapping[str, Any], *, evaluates: bool) -> dict[str, Any]:
    if not evaluates:
        return {}
    metric = given.get("metric_for_best_model") or "eval_loss"
    return {
        "metric_for_best_model": metric,
        "greater_is_better": greater_is_better(metric.removeprefix("eval_")),
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
