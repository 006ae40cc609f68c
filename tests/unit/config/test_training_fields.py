import subprocess
import sys

import pytest

from mmrun.config.training_fields import generation_names, training_fields
from mmrun.config.values import coerce


def test_the_fields_are_those_of_the_installed_class() -> None:
    code = (
        "from dataclasses import fields; from transformers import Seq2SeqTrainingArguments as A;"
        "print(*[f.name for f in fields(A) if f.init])"
    )

    real = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert set(training_fields()) == set(real)


def test_a_field_tells_its_kinds_default_choices_and_help() -> None:
    field = training_fields()["eval_strategy"]

    assert field.default == "'no'"
    assert field.choices == ("no", "steps", "epoch")
    assert "evaluation" in field.help


def test_reading_the_fields_does_not_import_transformers() -> None:
    code = (
        "import sys; from mmrun.config.training_fields import training_fields, generation_names;"
        "training_fields(), generation_names(); print('transformers' in sys.modules)"
    )

    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == "False"


def test_the_names_of_generation_are_known() -> None:
    assert {"max_length", "num_beams", "do_sample", "length_penalty"} <= generation_names()
    assert "transformers_version" not in generation_names()


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        pytest.param("learning_rate", "1e-4", 1e-4, id="a number in text"),
        pytest.param("learning_rate", 1, 1, id="a whole number where a number is wanted"),
        pytest.param("max_steps", "500", 500, id="a whole number in text"),
        pytest.param("max_steps", 1e3, 1000, id="a number that is whole"),
        pytest.param("warmup_steps", "500", 500, id="a count of steps stays whole"),
        pytest.param("warmup_steps", "0.1", 0.1, id="a share of the steps"),
        pytest.param("fp16", "True", True, id="true as Python writes it"),
        pytest.param("fp16", "no", False, id="no"),
        pytest.param("tf32", None, None, id="null where it may be"),
        pytest.param("seed", "7", 7, id="seed"),
        pytest.param("metric_for_best_model", "None", None, id="None where it may be"),
        pytest.param("eval_strategy", "steps", "steps", id="a choice"),
        pytest.param("label_names", "a, b", ["a", "b"], id="names with commas"),
        pytest.param("label_names", "[a, b]", ["a", "b"], id="a list in text"),
        pytest.param("label_names", ["a"], ["a"], id="a list"),
        pytest.param("lr_scheduler_kwargs", "{min_lr: 1e-6}", {"min_lr": 1e-6}, id="a mapping"),
        pytest.param("deepspeed", "ds.json", "ds.json", id="a path where a mapping may be"),
        pytest.param("include_num_input_tokens_seen", "all", "all", id="text where bool may be"),
        pytest.param("optim_target_modules", "q_proj", "q_proj", id="text where a list may be"),
        pytest.param("run_name", 7, "7", id="a number where text is wanted"),
    ],
)
def test_values_get_the_type_of_the_field(name: str, written: object, value: object) -> None:
    typed = coerce(training_fields()[name], written)

    assert typed == value
    assert type(typed) is type(value)


@pytest.mark.parametrize(
    ("name", "written", "reason"),
    [
        pytest.param("max_steps", "abc", "a whole number, not 'abc'", id="text"),
        pytest.param("max_steps", 1.5, "a whole number, not 1.5", id="a fraction"),
        pytest.param("max_steps", True, "a whole number, not True", id="a boolean"),
        pytest.param("max_steps", float("inf"), "a whole number, not inf", id="infinity"),
        pytest.param("learning_rate", "nan", "a number, not 'nan'", id="not a number"),
        pytest.param("learning_rate", [1], "a number, not", id="a list"),
        pytest.param("fp16", "maybe", "true or false, not 'maybe'", id="no boolean"),
        pytest.param("eval_strategy", "step", "did you mean 'steps'", id="not a choice"),
        pytest.param("parallelism_config", {}, "only be made in Python", id="an object"),
        pytest.param("seed", None, "a whole number, not None", id="null where it may not be"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, written: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        coerce(training_fields()[name], written)
