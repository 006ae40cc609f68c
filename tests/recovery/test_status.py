"""However an attempt ends: status, tags, record, error, words and exit code say the truth."""

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.recovery.breaking import Break, environment, sending
from tests.recovery.project import STEPS, Done, Project, assert_one_run_like

FIFTH = "train/00040"
"""A sample of the fifth step."""
WORKERS = ("--dataloader_num_workers", "2")
Breaking = Callable[..., Done]


@pytest.fixture
def breaking(project: Project, tmp_path: Path) -> Breaking:
    """Train and break at the given moments."""

    def train(*breaks: Break, options: Sequence[str] = ()) -> Done:
        return project.train(*options, **environment(tmp_path / "breaking", breaks))

    return train


def in_step(do: str) -> Break:
    return Break(opening=FIFTH, do=do, within="_run_epoch")


def tag(project: Project) -> str:
    return project.run.tags["mmrun.attempt.1"]


def error_of(project: Project, name: str = "error.txt") -> str | None:
    path = project.artifact(name)
    return path.read_text(encoding="utf-8") if path.exists() else None


FAILURES = [
    pytest.param(
        in_step('raise RuntimeError("boom")'),
        (),
        1,
        "error: RuntimeError: boom, after step 4",
        "error.txt of run",
        4,
        id="an exception in the loop",
    ),
    pytest.param(
        in_step('raise RuntimeError("boom")'),
        WORKERS,
        1,
        "error: RuntimeError: boom (in a data loader worker), after step 4",
        "error.txt of run",
        4,
        id="an exception in a loader worker",
    ),
    pytest.param(
        in_step("os.kill(os.getpid(), signal.SIGKILL)"),
        WORKERS,
        1,
        "most likely because the machine is out of memory, after step",
        "fewer --dataloader_num_workers",
        None,
        id="a worker that the system killed",
    ),
    pytest.param(
        in_step("raise MemoryError"),
        WORKERS,
        1,
        "error: a data loader worker is out of memory, after step 4",
        "fewer --dataloader_num_workers",
        4,
        id="out of memory in a worker",
    ),
    pytest.param(
        in_step('raise sys.modules["torch"].OutOfMemoryError("CUDA out of memory. Tried")'),
        (),
        1,
        "error: OutOfMemoryError: CUDA out of memory. Tried, after step 4",
        "a smaller --per_device_train_batch_size with more --gradient_accumulation_steps",
        4,
        id="out of memory on the accelerator",
    ),
    pytest.param(
        in_step('raise ValueError("cut")'),
        (),
        4,
        "train/00040.npy cannot be read",
        "write it again, with numpy.save",
        4,
        id="data that cannot be read",
    ),
    pytest.param(
        Break(opening="train/", do='raise RuntimeError("boom")', within="_run_epoch"),
        (),
        1,
        "error: RuntimeError: boom, after step 0",
        "the same command begins again at step 0: nothing was saved yet",
        0,
        id="before the first step",
    ),
    pytest.param(
        Break(opening="validation/", do='raise RuntimeError("boom")', within="evaluation_loop"),
        (),
        1,
        "error: RuntimeError: boom, after step 4",
        "error.txt of run",
        4,
        id="in the evaluation",
    ),
]


@pytest.mark.parametrize(("moment", "options", "code", "problem", "hint", "step"), FAILURES)
def test_a_failure_is_said_recorded_and_mended(
    *,
    breaking: Breaking,
    project: Project,
    alone: Project,
    moment: Break,
    options: Sequence[str],
    code: int,
    problem: str,
    hint: str,
    step: int | None,
) -> None:
    done = breaking(moment, options=options)

    assert done.code == code, done.said
    said = [line for line in done.said.splitlines() if line.startswith(("error:", "  try:"))]
    assert len(said) == 2, done.said
    assert problem in said[0]
    assert hint in said[1]
    assert "Traceback" not in done.said
    record = project.attempt(1)
    assert project.run.status == "FAILED"
    assert project.run.tags["mmrun.status"] == record["ended"] == "failed"
    assert step in (None, record["to_step"])
    assert tag(project) == f"steps 0 to {record['to_step']}, failed"
    assert f"| 1&emsp; | 0 to {record['to_step']}&emsp; | failed" in project.description
    error = error_of(project)
    assert error is not None
    assert "attempt: 1\n" in error
    assert "Traceback" in error

    project.train_to_the_end()

    assert_one_run_like(project, alone)
    assert error_of(project) is None
    assert error_of(project, "attempts/1.error.txt") == error
    assert "| failed" in project.description
    assert f"to {STEPS}&emsp; | finished" in project.description


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("SIGTERM", 75, "stopped by SIGTERM at step 5, which is saved"),
        ("SIGUSR1", 75, "stopped by SIGUSR1 at step 5, which is saved"),
        ("SIGINT", 130, "stopped by Ctrl-C at step 5, which is saved"),
    ],
)
def test_a_signal_ends_after_the_step_with_a_checkpoint(
    *, breaking: Breaking, project: Project, alone: Project, name: str, code: int, words: str
) -> None:
    done = breaking(sending(name, opening=FIFTH, within="_run_epoch"))

    assert done.code == code, done.said
    assert done.said.splitlines()[-2:] == [words, "  try: the same command goes on from there"]
    assert project.run.status == "KILLED"
    assert project.run.tags["mmrun.status"] == project.attempt(1)["ended"] == f"stopped by {name}"
    assert project.attempt(1)["to_step"] == 5
    assert project.artifact("checkpoints/checkpoint-5/manifest.json").exists()
    assert error_of(project) is None

    project.train_to_the_end()

    assert project.attempt(2)["from_step"] == 5
    assert_one_run_like(project, alone)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
def test_a_signal_to_all_processes_leaves_loader_workers_to_the_training(
    project: Project, alone: Project, name: str, code: int
) -> None:
    staying = (*WORKERS, "--dataloader_persistent_workers", "true")
    done = project.train_and_send(
        signal.Signals[name], at_line="step 5:", options=staying, to_all=True
    )

    assert done.code == code, done.said
    assert done.said.count("stopping after this step with a last checkpoint") == 1
    assert "which is saved" in done.said
    assert project.run.status == "KILLED"

    project.train_to_the_end()

    assert_one_run_like(project, alone)


def test_a_signal_in_an_evaluation_leaves_it_to_the_next_attempt(
    breaking: Breaking, project: Project, alone: Project
) -> None:
    done = breaking(sending("SIGTERM", opening="validation/", within="evaluation_loop"))

    assert done.code == 75, done.said
    assert "stopped by SIGTERM at step 4, which is saved" in done.said
    assert [key for key, _ in project.history if key == "eval_loss"] == []
    assert evaluated(project, step=4) is None

    project.train_to_the_end()

    assert project.attempt(2)["from_step"] == 4
    assert_one_run_like(project, alone)
    assert evaluated(project, step=4) == project.history["eval_loss", 4]
    assert project.run.tags["mmrun.checkpoint.best"] == alone.run.tags["mmrun.checkpoint.best"]


def evaluated(project: Project, *, step: int) -> float | None:
    """Return the loss of the evaluation that the manifest of a checkpoint knows."""
    text = (project.out / f"train/checkpoint-{step}/manifest.json").read_text(encoding="utf-8")
    metrics: dict[str, float] = json.loads(text)["metrics"]
    return metrics.get("eval_loss")


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(("train/", "_run_epoch"), id="in the step"),
        pytest.param(("trainer_state.json", "_save_checkpoint"), id="while it saves"),
        pytest.param(("spool/", "upload"), id="while it sends"),
    ],
)
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 75)])
def test_a_second_signal_ends_at_once_and_leaves_nothing_half(
    *,
    breaking: Breaking,
    project: Project,
    alone: Project,
    second: tuple[str, str],
    name: str,
    code: int,
) -> None:
    opening, within = second
    done = breaking(
        sending(name, opening=FIFTH, within="_run_epoch"),
        sending(name, opening=opening, within=within),
    )

    assert done.code == code, done.said
    words = "Ctrl-C" if name == "SIGINT" else name
    assert f"stopped at once by {words}\n" in done.said
    assert "goes on from the last checkpoint" in done.said.splitlines()[-1]
    assert project.run.status == "KILLED"
    assert project.run.tags["mmrun.status"] == "stopped at once"
    assert error_of(project) is None

    project.train_to_the_end()

    assert_one_run_like(project, alone)


@pytest.mark.parametrize("number", [1, 2])
def test_a_signal_while_a_failed_training_sends_changes_no_word_of_it(
    *, breaking: Breaking, project: Project, number: int
) -> None:
    failing = Break(opening="train/", do='raise RuntimeError("boom")', within="_run_epoch")
    done = breaking(failing, *[sending("SIGINT", opening="ended.json", within="fail")] * number)

    assert done.code == 1, done.said
    assert "RuntimeError: boom, after step 0: sending what waits" in done.said
    assert "stopping after this step" not in done.said
    assert project.run.status == "FAILED"
    assert project.run.tags["mmrun.status"] == project.attempt(1)["ended"] == "failed"
    assert "boom" in (error_of(project) or "")


def test_any_number_of_signals_leaves_the_truth(breaking: Breaking, project: Project) -> None:
    again = sending("SIGINT", opening="ended.json", within="fail")
    done = breaking(
        sending("SIGINT", opening=FIFTH, within="_run_epoch"),
        sending("SIGINT", opening="train/", within="_run_epoch"),
        again,
        again,
    )

    assert done.code == 130, done.said
    assert "stopped at once by Ctrl-C" in done.said
    assert project.run.status == "KILLED"
    assert project.run.tags["mmrun.status"] == project.attempt(1)["ended"] == "stopped at once"
    assert not (project.out / "journal/ended.json").exists()


def test_a_signal_while_the_last_checkpoint_is_sent_changes_nothing(
    breaking: Breaking, project: Project, alone: Project
) -> None:
    done = breaking(sending("SIGTERM", opening="spool/checkpoint-23", within="upload"))

    assert done.code == 0, done.said
    assert_one_run_like(project, alone)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_during_the_setup_leaves_nothing_half(
    breaking: Breaking, project: Project, alone: Project, name: str
) -> None:
    done = breaking(sending(name, opening="data/train.tsv", within="run_setup"))

    assert done.code == (130 if name == "SIGINT" else 75), done.said
    assert "before a step was done" in done.said
    assert not (project.folder / "mlflow.db").exists() or project.runs() == []

    project.train_to_the_end()

    assert_one_run_like(project, alone)


def test_killed_outright_is_said_by_the_next_attempt(
    breaking: Breaking, project: Project, alone: Project
) -> None:
    done = breaking(in_step("os.kill(os.getpid(), signal.SIGKILL)"))

    assert done.code == -signal.SIGKILL
    assert project.run.status == "RUNNING"
    assert project.run.tags["mmrun.status"] == "running"

    project.train_to_the_end()

    assert_one_run_like(project, alone)
    assert project.attempt(1)["ended"] == "killed"
    assert tag(project) == "steps 0 to 4, killed"
    assert "| 0 to 4&emsp; | killed" in project.description
