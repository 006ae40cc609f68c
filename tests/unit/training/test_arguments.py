"""From an experiment to the arguments of the Hugging Face Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Seq2SeqTrainingArguments

from mmrun.config.loading import load_experiment
from mmrun.errors import ConfigError
from mmrun.training.arguments import build_arguments, check_optimizer

EVALUATION: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}
SCORES: dict[str, Any] = {"predict_with_generate": True, "metric_name": "chrf,ter,wer,rouge,chrf++"}


def arguments(
    *, generation: dict[str, Any] | None = None, validation: bool = True, **training: Any
) -> Seq2SeqTrainingArguments:
    data = {"validation_metadata_file": "v.tsv"} if validation else {}
    base = {"data": data, "training": training, "generation": generation or {}}
    return build_arguments(load_experiment(None, base=base), output_dir=Path("out"))


def test_the_checkpoints_go_below_the_output_folder() -> None:
    assert arguments().output_dir == str(Path("out/train"))


def test_given_arguments_arrive() -> None:
    built = arguments(learning_rate=0.5, max_steps=7, label_smoothing_factor=0.1)

    assert (built.learning_rate, built.max_steps) == (0.5, 7)
    assert built.label_smoothing_factor == 0.1


def test_transformers_rotates_nothing_and_reports_to_nobody() -> None:
    built = arguments(save_total_limit=1)

    assert built.save_total_limit is None
    assert built.report_to == []


def test_only_labels_are_labels() -> None:
    assert arguments().label_names == ["labels"]


@pytest.mark.parametrize(
    ("metric", "greater"),
    [
        ("eval_loss", False),
        ("loss", False),
        ("chrf", True),
        ("eval_ter", False),
        ("wer", False),
        ("rouge2", True),
    ],
)
def test_the_direction_of_the_best_is_known_by_the_metric(metric: str, greater: bool) -> None:
    built = arguments(**EVALUATION, **SCORES, metric_for_best_model=metric)

    assert built.greater_is_better is greater


def test_a_metric_is_recorded_under_a_name_that_mlflow_takes() -> None:
    built = arguments(**EVALUATION, **SCORES, metric_for_best_model="chrf++")

    assert built.metric_for_best_model == "eval_chrfpp"


@pytest.mark.parametrize(
    ("training", "hint"),
    [
        ({"metric_for_best_model": "chrf", "metric_name": "chrf"}, "predict_with_generate"),
        ({"metric_for_best_model": "chrf"}, "add chrf to metric_name"),
    ],
    ids=["nothing is generated", "not among the metrics"],
)
def test_a_best_that_is_never_computed_is_refused(training: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match="never computed") as caught:
        arguments(**EVALUATION, **training)

    assert hint in caught.value.hint


def test_options_that_evaluations_do_not_take_are_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        arguments(**EVALUATION, **SCORES, generation={"num_beams": 2, "no_repeat_ngram_size": 3})

    assert "generation.no_repeat_ngram_size: for 'mmrun generate' only" in caplog.text
    assert "generation.num_beams" not in caplog.text


def test_an_unknown_metric_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"'chrf2' is not a metric .* mean 'chrf'"):
        arguments(metric_name="chrf2")


def test_with_evaluation_the_best_is_the_one_of_the_lowest_loss() -> None:
    built = arguments(**EVALUATION)

    assert (built.metric_for_best_model, built.greater_is_better) == ("eval_loss", False)


def test_a_given_direction_counts() -> None:
    built = arguments(**EVALUATION, **SCORES, metric_for_best_model="chrf", greater_is_better=False)

    assert built.greater_is_better is False


def test_without_evaluation_there_is_no_best() -> None:
    assert arguments().metric_for_best_model is None


def test_generation_settings_arrive() -> None:
    built = arguments(generation={"max_length": 9, "num_beams": 3})

    assert (built.generation_max_length, built.generation_num_beams) == (9, 3)


def test_evaluation_without_a_validation_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="no validation_metadata_file"):
        arguments(**EVALUATION, validation=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("early_stopping_patience", 3),
        ("metric_for_best_model", "chrf"),
        ("load_best_model_at_end", True),
    ],
)
def test_what_needs_evaluation_is_refused_without(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"training.{key} needs evaluation"):
        arguments(**{key: value})


def test_what_transformers_refuses_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"training: .*round multiple") as caught:
        arguments(**EVALUATION, save_steps=6, load_best_model_at_end=True)

    assert "\n" not in str(caught.value)


def test_a_batch_size_that_depends_on_the_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="auto_find_batch_size") as caught:
        arguments(auto_find_batch_size=True)

    assert "per_device_train_batch_size" in caught.value.hint


def test_what_has_no_effect_is_said_in_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    arguments(lr_scheduler_type="constant", warmup_steps=5, max_steps=9, num_train_epochs=2)

    (warning,) = caplog.records
    assert "training.warmup_steps (" in warning.getMessage()
    assert "training.num_train_epochs (" in warning.getMessage()


@pytest.mark.parametrize("key", ["fsdp", "deepspeed"])
def test_a_state_that_is_divided_among_processes_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.{key} divides the state"):
        arguments(**dict[str, Any]({key: "full_shard"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", -1),
        ("learning_rate", float("nan")),
        ("adam_beta1", 1.5),
        ("label_smoothing_factor", 2),
        ("gradient_accumulation_steps", 0),
        ("per_device_train_batch_size", 0),
        ("batch_eval_metrics", True),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"training.{name}: "):
        arguments(**{name: value})


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused_before_there_is_a_run(tracker: str) -> None:
    with pytest.raises(ConfigError, match=f"(?i)training: .*{tracker}"):
        arguments(report_to=[tracker])


@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "lomo", "galore_adamw"])
def test_an_optimizer_that_cannot_be_made_is_refused(optimizer: str) -> None:
    with pytest.raises(ConfigError, match="training: "):
        check_optimizer(arguments(optim=optimizer), nn.Linear(1, 1))


def test_half_precision_without_an_accelerator_is_said(caplog: pytest.LogCaptureFixture) -> None:
    arguments(fp16=True)

    said = "without effect: training.fp16" in caplog.text
    assert said is not torch.accelerator.is_available()
