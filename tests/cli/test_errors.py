"""Bad input ends in two lines on stderr and its exit code."""

from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from mmrun.cli import running
from mmrun.cli.main import run
from mmrun.errors import (
    CheckpointError,
    DataError,
    DiskFullError,
    MmrunError,
    PluginError,
    StopRequested,
    TrackingError,
)

FILE = "data: {dataset_type: features2text}\ntraining: {output_dir: o, max_steps: 5}\n"


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    path = tmp_path / "e.yaml"
    path.write_text(FILE, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("command", ["setup", "train", "generate"])
@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(None, "error: no experiment file at", id="missing"),
        pytest.param("", "is empty", id="empty"),
        pytest.param("a: [", "not valid YAML", id="malformed"),
        pytest.param("- a", "does not hold sections", id="no sections"),
        pytest.param("training: {lerning_rate: 1}", "e.yaml:1: training.lerning_rate", id="key"),
        pytest.param("training: {max_steps: abc}", "e.yaml:1: training.max_steps", id="value"),
    ],
)
def test_a_bad_file_ends_in_two_lines_and_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, text: str | None, error: str
) -> None:
    path = tmp_path / "e.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    code = run([command, "--config_path", str(path)])

    said = capsys.readouterr()
    problem, hint = said.err.splitlines()
    assert code == 3
    assert said.out == ""
    assert problem.startswith("error: ")
    assert error in problem
    assert hint.startswith("  try: ")


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        pytest.param(["train", "--max_steps", "abc"], "--max_steps: must be a whole", id="value"),
        pytest.param(["train", "--set", "foo"], "--set 'foo' has no '='", id="no equals sign"),
        pytest.param(["train", "--set", "lr=1"], "--set 'lr' names no section", id="no section"),
        pytest.param(["train", "--set", "a.b=1"], "--set a: unknown section", id="section"),
        pytest.param(["train", "--set", "training.b=1"], "training.b: unknown key", id="key"),
        pytest.param(["train", "--task", "parsing"], "--task: unknown task", id="task"),
        pytest.param(["train", "--modality=a", "--set=data.dataset_type=b"], "twice", id="twice"),
        pytest.param(["train", "--set", "training.seed=x"], "--set training.seed", id="set value"),
        pytest.param(["train", "--help-training", "zzzz"], "no training argument", id="filter"),
        pytest.param(["setup"], "mmrun setup needs an experiment file", id="no file"),
        pytest.param(["generate", "--num_beams", "x"], "--num_beams: must be", id="beams"),
        pytest.param(
            ["generate", "--model_name_or_path", "a", "--resume_from_checkpoint", "b"],
            "two checkpoints are named",
            id="two references",
        ),
        pytest.param(["checkpoints", "list", "x", "--format", "y"], "'y' is not one", id="format"),
        pytest.param(["demo", "data", "x", "--seed", "y"], "valid integer", id="seed of the demo"),
        pytest.param(["trian"], "mmrun has no command 'trian'", id="command"),
        pytest.param(["train", "--lerning_rate=1"], "does not know --lerning_rate", id="name"),
    ],
)
def test_a_bad_command_line_ends_in_two_lines_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], error: str
) -> None:
    code = run(argv)

    problem, hint = capsys.readouterr().err.splitlines()
    assert code == 2
    assert problem.startswith("error: ")
    assert error in problem
    assert hint.startswith("  try: ")


def test_a_bad_option_is_found_though_the_file_is_good(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["train", "--config_path", experiment, "--learning_rate", "fast"])

    assert code == 2
    assert capsys.readouterr().err.startswith("error: --learning_rate: must be a number")


def test_an_option_of_setup_is_checked_like_the_key_that_it_sets(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["setup", "--config_path", experiment, "--seed", "x"])

    assert code == 2
    assert capsys.readouterr().err.startswith("error: --seed: must be a valid integer, not 'x'")


def test_each_problem_has_a_line_and_all_share_one_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.yaml"
    path.write_text("model: {a: 1, b: 2}\n", encoding="utf-8")

    run(["train", "--config_path", str(path)])

    starts = [line[:6] for line in capsys.readouterr().err.splitlines()]
    assert starts == ["error:", "error:", "  try:"]


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @app.callback()
    def group() -> None: ...

    @app.command()
    def fail() -> None:
        raise error

    return app


@pytest.fixture
def run_failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def run_with(error: BaseException, *argv: str) -> int:
        monkeypatch.setattr(running, "app", failing(error))
        return run(["fail", *argv])

    return run_with


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        pytest.param(MmrunError("no", hint="yes"), 1, ["error: no", "  try: yes"], id="training"),
        pytest.param(DataError("no"), 4, ["error: no"], id="data"),
        pytest.param(CheckpointError("no"), 5, ["error: no"], id="checkpoint"),
        pytest.param(DiskFullError("no"), 5, ["error: no"], id="full disk"),
        pytest.param(TrackingError("no"), 6, ["error: no"], id="tracking"),
        pytest.param(PluginError("no"), 7, ["error: no"], id="plug-in"),
        pytest.param(StopRequested("at 5"), 75, ["at 5"], id="asked to stop"),
        pytest.param(StopRequested("at 5", by_keyboard=True), 130, ["at 5"], id="Ctrl-C, saved"),
        pytest.param(
            KeyboardInterrupt(),
            130,
            ["stopped by Ctrl-C", "  try: run the same command again"],
            id="Ctrl-C",
        ),
        pytest.param(
            DataError("one", more=("two",), hint="x"),
            4,
            ["error: one", "error: two", "  try: x"],
            id="several",
        ),
    ],
)
def test_every_error_has_its_exit_code(
    run_failing: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: list[str],
) -> None:
    assert run_failing(error) == code
    assert capsys.readouterr().err.splitlines() == said


def test_an_error_that_nobody_expected_is_one_line_and_a_hint(
    run_failing: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_failing(RuntimeError("CUDA out of memory\nand much more"))

    problem, hint = capsys.readouterr().err.splitlines()
    assert code == 1
    assert problem == "error: RuntimeError: CUDA out of memory"
    assert "--verbose" in hint


def test_verbose_shows_the_traceback(
    run_failing: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run_failing(DataError("no"), "--verbose")

    assert "Traceback" in capsys.readouterr().err


def test_an_error_in_a_loader_worker_is_told_as_what_it_was(
    run_failing: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    run_failing(
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nRuntimeError: x")
    )

    assert capsys.readouterr().err.startswith("error: RuntimeError: x (in a data loader worker)")
