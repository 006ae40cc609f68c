"""Which options a schedule takes: a wrong one is refused in words, and none of the right ones."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR

from mmrun.errors import ConfigError
from mmrun.training.schedule_options import OPTIONS, check_schedule

OF_THE_TRAINER = {"last_epoch", "num_training_steps", "num_warmup_steps", "optimizer"}


def check(kind: str, options: Any = None, **others: Any) -> None:
    check_schedule({"lr_scheduler_type": kind, "lr_scheduler_kwargs": options, **others})


def test_the_options_are_those_of_the_installed_transformers() -> None:
    functions: Mapping[Any, Any] = TYPE_TO_SCHEDULER_FUNCTION
    taken = {
        kind.value: set(inspect.signature(function).parameters) - OF_THE_TRAINER - {"kwargs"}
        for kind, function in functions.items()
    }
    taken["greedy"] = set(inspect.signature(GreedyLR).parameters) - OF_THE_TRAINER
    # Torch's own, which transformers hands everything on to.
    taken["reduce_lr_on_plateau"] = set(OPTIONS["reduce_lr_on_plateau"])

    assert {kind: set(names) for kind, names in OPTIONS.items()} == taken


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("linear", None),
        ("cosine", {"num_cycles": 2}),
        ("polynomial", {"lr_end": 0, "power": 2}),
        ("cosine_with_min_lr", {"min_lr": 1e-6, "min_lr_rate": None}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 5, "decay_type": "1-sqrt"}),
        ("reduce_lr_on_plateau", {"mode": "max", "factor": 0.5}),
        ("greedy", {"smooth": True}),
    ],
)
def test_what_a_schedule_takes_passes(kind: str, options: Any) -> None:
    check(kind, options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        pytest.param("cosine", {"num_cycle": 2}, "no option 'num_cycle'", id="misspelt"),
        pytest.param("linear", {"num_cycles": 2}, "linear has no option", id="of another"),
        pytest.param("constant", {"power": 2}, "constant has no option", id="passed over"),
        pytest.param("cosine", {"num_cycles": "two"}, "num_cycles cannot be 'two'", id="text"),
        pytest.param("cosine", {"num_cycles": True}, "num_cycles cannot be True", id="boolean"),
        pytest.param("cosine", "num_cycles=2", "must be a mapping", id="no mapping"),
        pytest.param("cosine_with_min_lr", {}, "needs one of min_lr and", id="no lowest rate"),
        pytest.param(
            "cosine_warmup_with_min_lr",
            {"min_lr": 0.1, "min_lr_rate": 0.1},
            "not 2 of them",
            id="two lowest rates",
        ),
        pytest.param("warmup_stable_decay", {}, "needs num_decay_steps", id="no decay"),
        pytest.param(
            "warmup_stable_decay",
            {"num_decay_steps": 5, "warmup_type": "sine"},
            "warmup_type cannot be 'sine'",
            id="no such shape",
        ),
        pytest.param("polynomial", {"lr_end": 0.1}, "5e-05 is not above the 0.1", id="end above"),
        pytest.param("greedy", {"patient": 3}, "no option 'patient'", id="of one that looks back"),
    ],
)
def test_what_a_schedule_does_not_take_is_refused(kind: str, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(kind, options)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("cosine", "num_cycle", "did you mean num_cycles?"),
        ("polynomial", "xyz", "it has lr_end, power"),
        ("constant", "num_cycles", "leave lr_scheduler_kwargs out"),
    ],
)
def test_the_hint_names_what_there_is(kind: str, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=name) as refused:
        check(kind, {name: 1})

    assert refused.value.hint == hint
