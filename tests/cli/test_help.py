import pytest

from mmrun import __version__
from mmrun.cli.main import run


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--help"],
        ["-h"],
        ["setup", "--help"],
        ["train", "--help"],
        ["generate", "--help"],
        ["checkpoints"],
        ["checkpoints", "list", "--help"],
        ["history", "--help"],
        ["runs", "--help"],
        ["reap", "--help"],
        ["doctor", "--help"],
        ["demo"],
        ["demo", "data", "--help"],
        ["demo", "run", "--help"],
    ],
    ids=lambda argv: " ".join(argv) or "nothing",
)
def test_help_is_plain_text_on_stdout(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = run(argv)

    said = capsys.readouterr()
    assert code == 0
    assert said.out.startswith("Usage: mmrun")
    assert said.err == ""
    assert "╭" not in said.out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"mmrun {__version__}\n"


def test_the_training_arguments_are_listed_with_type_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["train", "--help-training"]) == 0

    said = capsys.readouterr().out
    assert "--learning_rate  float  default 5e-05\n      The initial learning rate" in said
    assert said.count("\n--") > 100


def test_the_list_of_training_arguments_can_be_filtered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["train", "--help-training", "learning-rate"])

    assert capsys.readouterr().out.count("--") == 1
