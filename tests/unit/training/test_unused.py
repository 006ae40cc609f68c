"""Which arguments are idle beside which others."""

from typing import Any

import pytest

from mmrun.training.unused import unused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param({}, [], id="nothing given"),
        pytest.param({"warmup_steps": 10, "lr_scheduler_type": "linear"}, [], id="a warm-up"),
        pytest.param(
            {"warmup_steps": 10, "lr_scheduler_type": "constant"},
            ["training.warmup_steps (the schedule constant has no warm-up)"],
            id="no warm-up",
        ),
        pytest.param({"num_train_epochs": 3}, [], id="epochs"),
        pytest.param({"num_train_epochs": 3, "max_steps": -1}, [], id="epochs, no steps"),
        pytest.param(
            {"num_train_epochs": 3, "max_steps": 9},
            ["training.num_train_epochs (max_steps decides)"],
            id="steps and epochs",
        ),
        pytest.param({"optim": "sgd", "optim_args": "momentum=0.9"}, [], id="options of sgd"),
        pytest.param(
            {"optim": "adamw_torch", "optim_args": "eps=1"},
            ["training.optim_args (adamw_torch takes none)"],
            id="options of Adam",
        ),
        pytest.param(
            {"optim_args": "eps=1"},
            ["training.optim_args (the optimizer takes none)"],
            id="options of the default",
        ),
        pytest.param({"optim": "adamw_torch", "adam_beta1": 0.8}, [], id="betas of Adam"),
        pytest.param(
            {"optim": "sgd", "adam_beta1": 0.8},
            ["training.adam_beta1 (sgd is not Adam)"],
            id="betas of sgd",
        ),
        pytest.param(
            {"optim_target_modules": "all-linear"},
            ["training.optim_target_modules (the optimizer has all modules)"],
            id="some modules",
        ),
        pytest.param(
            {"optim": "galore_adamw", "optim_target_modules": "all-linear"}, [], id="of galore"
        ),
        pytest.param(
            {"length_column_name": "frames"},
            ["training.length_column_name (group_by_length takes the number of frames)"],
            id="another length",
        ),
        pytest.param({"save_steps": 10}, [], id="steps are the default of saving"),
        pytest.param(
            {"save_steps": 10, "save_strategy": "epoch"},
            ["training.save_steps (save_strategy is epoch)"],
            id="another strategy",
        ),
        pytest.param(
            {"eval_steps": 10},
            ["training.eval_steps (eval_strategy is no)"],
            id="no evaluation is the default",
        ),
    ],
)
def test_what_is_idle_is_said_with_the_reason(arguments: dict[str, Any], said: list[str]) -> None:
    assert unused(arguments) == said
