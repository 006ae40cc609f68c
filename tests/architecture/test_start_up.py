"""What the command line may load before it knows what to do."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "datasets", "mlflow", "dvc"}


def loaded_by(code: str) -> set[str]:
    answer = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print('\\n', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(answer.stdout.splitlines()[-1].split())


def loaded_by_command(*argv: str) -> set[str]:
    return loaded_by(f"from mmrun.cli.main import run; run({list(argv)!r})")


def test_the_command_line_imports_nothing_heavy() -> None:
    assert HEAVY.isdisjoint(loaded_by("import mmrun.cli.running"))


def test_signals_are_listened_to_before_the_command_line_is_imported() -> None:
    assert {"typer", "logging", "json", "pathlib"}.isdisjoint(loaded_by("import mmrun.cli.main"))


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["--help"], id="help"),
        pytest.param(["train", "--help"], id="help of a command"),
        pytest.param(["train", "--help-training"], id="training arguments"),
        pytest.param(["train", "--lerning_rate", "1"], id="unknown name"),
        pytest.param(["train", "--config_path", "nothing.yaml"], id="no such file"),
        pytest.param(["train", "--max_steps", "abc"], id="value of another type"),
    ],
)
def test_an_answer_that_needs_nothing_heavy_imports_nothing_heavy(argv: list[str]) -> None:
    assert HEAVY.isdisjoint(loaded_by_command(*argv))


def test_help_does_not_even_read_experiment_files() -> None:
    loaded = loaded_by_command("train", "--help")

    assert {"ruamel.yaml", "omegaconf", "rich"}.isdisjoint(loaded)


def test_a_command_that_imports_is_not_held_up_by_the_garbage_collector() -> None:
    code = "import atexit, gc; atexit.register(lambda: print(gc.get_threshold()[0]))"

    answer = subprocess.run(
        [sys.executable, "-c", f"{code}; from mmrun.cli.main import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(answer.stdout.splitlines()[-1]) > 10_000


def test_control_code_can_be_imported_without_the_heavy_libraries() -> None:
    modules = "import mmrun.config.loading, mmrun.checkpoints, mmrun.tracking.store"

    assert HEAVY.isdisjoint(loaded_by(modules))
