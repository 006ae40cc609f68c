"""A translation that is killed, started again, stopped, and started again by the same command."""

import os
import signal
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from mmrun.cli.main import run
from tests.recovery.breaking import Break, environment, sending
from tests.recovery.project import Done, Project

ROWS = 16
COMMAND = (
    *("generate", "--config_path", "experiment.yaml", "--split", "validation"),
    *("--batch_size", "4", "--metric_name", "chrf,exact_match"),
    *("--do_sample", "true", "--top_k", "0"),
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the commands said, and what they left."""

    alone: Mapping[str, bytes]
    killed: Done
    left_by_kill: bool
    stopped: Done
    status_then: str
    ended: Done
    files: Mapping[str, bytes]
    project: Project


@pytest.fixture(scope="module")
def story(alone_at: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Translate at once, and once more with a kill after two batches and a stop after three."""
    project = Project(alone_at[0])
    project.restore(alone_at[1])
    assert here(project, "--offline").code == 0
    alone = files(project)
    project.restore(alone_at[1])
    killed = project.mmrun(*COMMAND, MMRUN_KILL_AT="rows.kept@8")
    (kept,) = (project.out / ".generate").glob("*/rows.jsonl")
    with kept.open("a", encoding="utf-8") as stream:
        stream.write('[[3, [{"te')  # as if it had died while it wrote
    left_by_kill = (project.out / "generate").exists()
    # It would die at the fourth row if it began from the start.
    again = environment(tmp_path_factory.mktemp("breaking"), [sending_at_the_last(project)])
    stopped = project.mmrun(*COMMAND, MMRUN_KILL_AT="rows.kept@4", **again)
    (child,) = [run for run in project.runs() if "mlflow.parentRunId" in run.tags]
    return Story(
        alone=alone,
        killed=killed,
        left_by_kill=left_by_kill,
        stopped=stopped,
        status_then=child.status,
        ended=here(project),
        files=files(project),
        project=project,
    )


def sending_at_the_last(project: Project) -> Break:
    """Send a SIGTERM when the last row is loaded; long ones come first."""
    signals = sorted((project.folder / "data/validation").glob("*.npy"))
    last = min(reversed(signals), key=lambda path: len(np.load(path)))
    return sending("SIGTERM", opening=f"validation/{last.name}", within="__getitems__")


def here(project: Project, *options: str) -> Done:
    """Run the command in this process."""
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.chdir(project.folder)
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        code = run([*COMMAND, *options])
    return Done(code=code, said=said.getvalue())


def files(project: Project) -> Mapping[str, bytes]:
    (folder,) = (project.out / "generate/validation").glob("checkpoint-*")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_kill_leaves_no_predictions_that_are_not_whole(story: Story) -> None:
    assert story.killed.code == -signal.SIGKILL, story.killed.said
    assert not story.left_by_kill


def test_the_same_command_goes_on_with_the_rows_that_are_not_done(story: Story) -> None:
    assert f"8 of {ROWS} rows are translated already\n" in story.stopped.said
    assert f"12 of {ROWS} rows are translated already\n" in story.ended.said


def test_a_stopped_translation_is_resumable_and_says_so(story: Story) -> None:
    said = story.stopped.said

    assert story.stopped.code == 75, said
    assert f"12 of {ROWS} rows are translated and kept\n" in said
    assert said.endswith("  try: run the same command again: it goes on with the others\n")
    assert story.status_then == "KILLED"


def test_the_files_are_those_of_a_translation_that_was_left_alone(story: Story) -> None:
    assert story.ended.code == 0, story.ended.said
    assert story.files == story.alone
    assert len(story.files["predictions.jsonl"].splitlines()) == ROWS


def test_in_the_end_there_is_one_finished_record_and_nothing_is_left(story: Story) -> None:
    (child,) = [run for run in story.project.runs() if "mlflow.parentRunId" in run.tags]

    assert child.status == "FINISHED"
    assert not (story.project.out / ".generate").exists()
