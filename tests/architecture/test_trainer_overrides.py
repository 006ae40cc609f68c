"""What `ResumableTrainer` takes from the inside of transformers is still there, and as it was.

A method that is renamed would no longer be called, without a word; one that is added under a name
of ours would be overridden by chance.
"""

import inspect
from typing import Any

import pytest
import transformers
from transformers import Seq2SeqTrainer, Trainer

from mmrun.training.trainer import ResumableTrainer

READ_VERSION = "5.23"
OVERRIDDEN = {
    "__init__",
    "_evaluate",
    "_finalize_training",
    "_get_dataloader",
    "_get_eval_sampler",
    "_get_train_sampler",
    "_init_training_state",
    "_load_from_checkpoint",
    "_load_optimizer_and_scheduler",
    "_load_rng_state",
    "_maybe_log_save_evaluate",
    "_run_epoch",
    "_save_checkpoint",
    "compute_loss",
    "evaluation_loop",
    "get_batch_samples",
    "log",
    "prediction_step",
    "set_initial_training_values",
    "training_step",
}
"""Everything of the Trainer's that is replaced; a name that is here by chance is a mistake."""

PARAMETERS = {
    "log": ["logs", "start_time"],
    "get_batch_samples": ["epoch_iterator", "num_batches", "device"],
    "_evaluate": ["trial", "ignore_keys_for_eval", "skip_scheduler"],
    "_finalize_training": ["trial", "num_train_samples", "start_time"],
    "_get_dataloader": [
        "dataset",
        "description",
        "batch_size",
        "sampler_fn",
        "is_training",
        "dataloader_key",
    ],
    "_get_eval_sampler": ["eval_dataset"],
    "_get_train_sampler": ["train_dataset"],
    "_init_training_state": [
        "max_steps",
        "num_update_steps_per_epoch",
        "num_train_epochs",
        "resume_from_checkpoint",
        "trial",
    ],
    "_load_from_checkpoint": ["resume_from_checkpoint", "model"],
    "_load_optimizer_and_scheduler": ["checkpoint"],
    "_load_rng_state": ["checkpoint"],
    "_maybe_log_save_evaluate": [
        "tr_loss",
        "grad_norm",
        "model",
        "trial",
        "epoch",
        "ignore_keys_for_eval",
        "start_time",
        "learning_rate",
    ],
    "_run_epoch": [
        "model",
        "epoch",
        "train_dataloader",
        "steps_in_epoch",
        "num_update_steps_per_epoch",
        "trial",
        "ignore_keys_for_eval",
        "start_time",
        "resume_from_checkpoint",
        "epochs_trained",
        "steps_trained_in_current_epoch",
    ],
    "_save_checkpoint": ["model", "trial"],
    "compute_loss": ["model", "inputs", "return_outputs", "num_items_in_batch"],
    "evaluation_loop": [
        "dataloader",
        "description",
        "prediction_loss_only",
        "ignore_keys",
        "metric_key_prefix",
    ],
    "set_initial_training_values": ["args", "dataloader"],
    "training_step": ["model", "inputs", "num_items_in_batch"],
}

CALLED = {
    "_save_optimizer_and_scheduler": ["output_dir"],
    "_save_rng_state": ["output_dir"],
    "_save_scaler": ["output_dir"],
    "store_flos": [],
}
"""What is called there, besides the method that is replaced."""

WRITTEN = ["_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_initial_global_step"]
"""The running sums, which are put back at the begin of the loop."""


def parameters(method: Any) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name != "self"]


def test_transformers_is_the_version_that_was_read() -> None:
    assert ".".join(transformers.__version__.split(".")[:2]) == READ_VERSION


def test_nothing_else_of_the_trainer_is_overridden() -> None:
    own = {name for name, value in vars(ResumableTrainer).items() if callable(value)}

    assert {name for name in own if hasattr(Seq2SeqTrainer, name)} == OVERRIDDEN


@pytest.mark.parametrize("name", PARAMETERS)
def test_an_overridden_method_is_called_as_before(name: str) -> None:
    assert parameters(getattr(Seq2SeqTrainer, name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", CALLED)
def test_a_called_method_takes_what_it_took(name: str) -> None:
    assert parameters(getattr(Seq2SeqTrainer, name)) == CALLED[name]


@pytest.mark.parametrize("name", WRITTEN)
def test_the_loop_still_keeps_its_sums_under_these_names(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(Trainer)
    assert f"self.{name}" in inspect.getsource(ResumableTrainer)
