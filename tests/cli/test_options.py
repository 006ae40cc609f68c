"""The one table of options, and the form that arguments are put into before Typer sees them."""

from typing import Any

import pytest
import typer

from mmrun.cli.app import app
from mmrun.cli.command_line import CommandLine, read_command_line
from mmrun.cli.options import options_of
from mmrun.cli.settings import settings_of
from mmrun.errors import UsageError

TABLE = """\
checkpoints average: --help nothing, --output value, --output_dir value, --tracking_uri value,\
 --verbose nothing
checkpoints list: --format value, --help nothing, --tracking_uri value, --verbose nothing
checkpoints pin: --help nothing, --output_dir value, --remove boolean, --tracking_uri value,\
 --verbose nothing
checkpoints prune: --dry-run boolean, --help nothing, --keep_best value, --keep_last value,\
 --tracking_uri value, --verbose nothing
checkpoints pull: --help nothing, --output_dir value, --tracking_uri value, --verbose nothing
checkpoints verify: --help nothing, --tracking_uri value, --verbose nothing
demo data: --help nothing, --kind value, --seed value, --verbose nothing
demo run: --help nothing, --verbose nothing
doctor: --config_path value, --format value, --help nothing, --tracking_uri value,\
 --verbose nothing
generate: --batch_size value, --config_path value, --help nothing, --metric_name value,\
 --modality value, --model_name_or_path value, --offline boolean, --output_dir value,\
 --resume_from_checkpoint value, --set value, --setup_path value, --split value, --task value,\
 --verbose nothing
history: --all-attempts boolean, --format value, --help nothing, --metric value,\
 --tracking_uri value, --verbose nothing
reap: --config_path value, --dry-run boolean, --experiment value, --help nothing,\
 --tracking_uri value, --verbose nothing
runs: --all boolean, --config_path value, --experiment value, --format value, --help nothing,\
 --tracking_uri value, --verbose nothing, --watch boolean
setup: --check_files boolean, --config_path value, --do_dataset boolean, --do_model boolean,\
 --do_processor boolean, --help nothing, --modality value, --output_dir value,\
 --rebuild_dataset_from_scratch boolean,\
 --seed value, --set value, --update_config boolean, --verbose nothing
sync: --as_new_run boolean, --help nothing, --tracking_uri value, --verbose nothing
train: --accept-data-change boolean, --config_path value, --dry-run boolean, --fork boolean,\
 --format value, --help nothing, --help-training maybe, --modality value, --offline boolean,\
 --output_dir value, --overwrite_output_dir boolean, --resume_from_checkpoint value, --set value,\
 --setup_path value, --steal boolean, --task value, --verbose nothing
"""
ROOT: Any = typer.main.get_command(app)


def commands(group: Any, called: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        below = getattr(command, "commands", None)
        full = f"{called} {name}".strip()
        found |= {full: command} if below is None else commands(command, full)
    return found


def read(*argv: str) -> CommandLine:
    return read_command_line(ROOT, argv, settings_of=settings_of)


def settings(*argv: str) -> dict[str, str]:
    return {setting.key: setting.text for setting in read(*argv).settings}


def test_the_options_are_the_agreed_ones() -> None:
    lines = [
        f"{name}: "
        + ", ".join(sorted(f"{option.flag} {option.takes}" for option in table.values()))
        for name, table in sorted((n, options_of(c)) for n, c in commands(ROOT).items())
    ]

    assert "\n".join(lines) + "\n" == TABLE


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(["--config_path", "e.yaml"], id="underscore, apart"),
        pytest.param(["--config_path=e.yaml"], id="underscore, together"),
        pytest.param(["--config-path", "e.yaml"], id="dash, apart"),
        pytest.param(["--config-path=e.yaml"], id="dash, together"),
    ],
)
def test_every_way_to_write_an_option_is_the_same(written: list[str]) -> None:
    assert read("train", *written).argv == ["train", "--config_path=e.yaml"]


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        pytest.param(["--overwrite_output_dir"], ["--overwrite_output_dir"], id="alone"),
        pytest.param(["--overwrite_output_dir", "true"], ["--overwrite_output_dir"], id="true"),
        pytest.param(["--overwrite-output-dir=True"], ["--overwrite_output_dir"], id="=True"),
        pytest.param(
            ["--overwrite_output_dir", "false"], ["--no_overwrite_output_dir"], id="false"
        ),
        pytest.param(["--overwrite_output_dir=0"], ["--no_overwrite_output_dir"], id="=0"),
        pytest.param(["--no-overwrite-output-dir"], ["--no_overwrite_output_dir"], id="no"),
        pytest.param(["--overwrite_output_dir", ""], [], id="empty is not given"),
        pytest.param(["--dry-run"], ["--dry-run"], id="a switch"),
        pytest.param(["--dry_run", "false"], [], id="a switch that is off"),
    ],
)
def test_booleans_take_an_optional_value(written: list[str], argv: list[str]) -> None:
    assert read("train", *written).argv == ["train", *argv]


def test_a_boolean_leaves_the_next_option_alone() -> None:
    line = read("setup", "--do_dataset", "--do_model", "--config_path", "e.yaml")

    assert line.argv == ["setup", "--do_dataset", "--do_model", "--config_path=e.yaml"]


def test_training_arguments_are_settings_of_the_experiment() -> None:
    found = settings("train", "--learning-rate=1e-4", "--fp16", "--max_steps", "5")

    assert found == {
        "training.learning_rate": "1e-4",
        "training.fp16": "true",
        "training.max_steps": "5",
    }


def test_a_boolean_setting_takes_an_optional_value() -> None:
    assert settings("train", "--fp16", "false") == {"training.fp16": "false"}


@pytest.mark.parametrize(
    ("argv", "key"),
    [
        pytest.param(["setup", "--feat_dim", "5"], "model.feat_dim", id="another section"),
        pytest.param(["train", "--seed", "5"], "training.seed", id="seed of training"),
        pytest.param(["train", "--run_name", "5"], "training.run_name", id="in two sections"),
        pytest.param(["generate", "--max_length", "5"], "generation.max_length", id="length"),
        pytest.param(["generate", "--num_beams", "5"], "generation.num_beams", id="beams"),
        pytest.param(
            ["generate", "--per_device_eval_batch_size", "5"],
            "training.per_device_eval_batch_size",
            id="training argument of generate",
        ),
        pytest.param(
            ["train", "--visualize_prediction_prob", "5"],
            "training.visualize_prediction_prob",
            id="a name without effect is told later",
        ),
    ],
)
def test_a_name_is_looked_up_where_the_command_needs_it(argv: list[str], key: str) -> None:
    assert settings(*argv) == {key: "5"}


def test_a_name_of_several_sections_is_refused() -> None:
    with pytest.raises(UsageError, match="train does not know --max_length"):
        read("train", "--max_length", "5")


def test_a_dropped_switch_needs_no_value() -> None:
    assert settings("train", "--group_by_length") == {"training.group_by_length": "true"}


def test_an_empty_value_means_not_given() -> None:
    line = read("train", "--resume_from_checkpoint", "", "--max_steps", "", "--config_path=")

    assert line.argv == ["train"]
    assert not line.settings


def test_a_negative_number_is_a_value() -> None:
    assert settings("train", "--max_steps", "-1") == {"training.max_steps": "-1"}


def test_verbose_may_stand_anywhere() -> None:
    assert read("--verbose", "train").verbose
    assert read("train", "--verbose", "--max_steps", "5").verbose


def test_help_is_shown_even_where_something_is_missing() -> None:
    assert read("checkpoints", "list", "-h").argv == ["checkpoints", "list", "--help"]


def test_a_group_without_a_command_shows_its_help() -> None:
    assert read().argv == ["--help"]
    assert read("checkpoints").argv == ["checkpoints", "--help"]


def test_an_argument_may_begin_with_a_dash_after_two_dashes() -> None:
    assert read("demo", "run", "--", "-x").argv == ["demo", "run", "--", "-x"]


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        pytest.param(["--help-training"], ["--help-training="], id="alone"),
        pytest.param(["--help-training", "rate"], ["--help-training=rate"], id="filter"),
    ],
)
def test_the_list_of_training_arguments_takes_an_optional_filter(
    written: list[str], argv: list[str]
) -> None:
    assert read("train", *written).argv == ["train", *argv]


@pytest.mark.parametrize(
    ("argv", "problem", "hint"),
    [
        pytest.param(["trian"], "mmrun has no command 'trian'", "mmrun train", id="command"),
        pytest.param(["zzz"], "no command 'zzz'", "one of: setup, train", id="no near command"),
        pytest.param(["checkpoints", "lst"], "no command 'lst'", "list", id="subcommand"),
        pytest.param(
            ["train", "--lerning-rate", "1"],
            "mmrun train does not know --lerning-rate",
            "--learning_rate",
            id="near a training argument",
        ),
        pytest.param(["train", "--config"], "know --config", "--config_path", id="short"),
        pytest.param(["train", "--zzzzzz"], "know --zzzzzz", "mmrun train --help", id="nothing"),
        pytest.param(["--vresion"], "know --vresion", "--version", id="before the command"),
        pytest.param(["demo", "run", "x", "--y"], "know --y", "mmrun demo run --help", id="no set"),
        pytest.param(["train", "x"], "'x' is not expected here", "train --help", id="stray"),
        pytest.param(["train", "--fp16", "x"], "true or false, not 'x'", "", id="boolean setting"),
        pytest.param(["train", "--steal=x"], "true or false, not 'x'", "", id="boolean option"),
        pytest.param(["train", "--dry-run", "--dry_run"], "is given twice", "", id="twice"),
        pytest.param(["train", "--seed=1", "--seed=1"], "is given twice", "", id="setting twice"),
        pytest.param(["train", "--max_steps"], "--max_steps needs a value", "", id="no value"),
        pytest.param(["train", "--max_steps", "--fp16"], "needs a value", "", id="an option next"),
        pytest.param(["train", "--help=x"], "takes no value", "--help", id="help with a value"),
        pytest.param(["demo", "run"], "mmrun demo run needs FOLDER", "", id="argument missing"),
        pytest.param(["demo", "run", "a", "b"], "'b' is not expected", "", id="one too many"),
    ],
)
def test_what_is_not_in_the_table_is_refused(argv: list[str], problem: str, hint: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        read(*argv)

    assert hint in caught.value.hint
    assert caught.value.hint
