"""``--fork``: a new run from another one's checkpoint and history, which needs it no more."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mmrun.tracking.mlflow_store import MlflowStore
from tests.recovery.project import STEPS, Project, RunRow
from tests.recovery.test_changed_on_resume import assert_refused
from tests.recovery.test_dry_run import HEAVY, said_and_imported
from tests.recovery.test_history import effective, shown


def fork(project: Project, *options: str, reference: str = "{run}@12") -> list[str]:
    """Return the words of a fork of the first run into the folder `new`, without its file."""
    return [
        "train",
        "--fork",
        "--output_dir",
        "new",
        "--resume_from_checkpoint",
        reference.format(run=run_of(project, "out")),
        *options,
    ]


def run_of(project: Project, folder: str) -> str:
    content: Mapping[str, str] = json.loads((project.folder / folder / "run.json").read_text())
    return content["run_id"]


def row(project: Project, run_id: str) -> RunRow:
    return next(run for run in project.runs() if run.run_id == run_id)


def points_of(project: Project, run_id: str) -> list[tuple[str, int, float, int]]:
    query = "SELECT key, step, value, timestamp FROM metrics WHERE run_uuid = ? ORDER BY 1, 2, 4"
    rows: list[tuple[str, int, float, int]] = project._rows(query, run_id)
    return rows


def source_as_it_is(project: Project) -> tuple[Any, ...]:
    """Return all that a fork must leave as it is."""
    run_id = run_of(project, "out")
    artifacts = project.folder / "mlartifacts" / run_id
    return (
        row(project, run_id),
        points_of(project, run_id),
        sorted(
            (str(path), path.stat().st_mtime_ns) for path in artifacts.rglob("*") if path.is_file()
        ),
        sorted(str(path) for path in project.out.rglob("*")),
    )


def assert_forked(project: Project, alone: Project, *, at: int = 12, source: str) -> None:
    """Compare the fork in `new`, trained to the end without a change, with the run left alone."""
    run_id = run_of(project, "new")
    run = row(project, run_id)
    assert run.status == "FINISHED"
    assert run.tags["mmrun.forked_from"] == f"{source}@{at}"
    assert run.tags["mmrun.started_from"] == f"{source}@{at}.a1"
    assert "mmrun.replay" not in run.tags
    assert effective(project, of="new") == alone.history
    assert effective(project, of=run_id) == alone.history
    mine = Project(project.folder)
    mine.out = project.folder / "new"
    ours, theirs = mine.weights(STEPS), alone.weights(STEPS)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_fork_goes_on_where_its_source_and_its_own_folder_are_gone(
    finished: Project, alone: Project
) -> None:
    source, before = run_of(finished, "out"), source_as_it_is(finished)
    done = finished.mmrun(*fork(finished), MMRUN_KILL_AT="upload.manifest@12,step@15")
    assert done.code == -9, done.said
    assert source_as_it_is(finished) == before
    run_id = run_of(finished, "new")
    for folder in ("new", "out", f"mlartifacts/{source}"):
        shutil.rmtree(finished.folder / folder)
    MlflowStore(f"sqlite:///{finished.folder / 'mlflow.db'}").delete(source)

    done = finished.mmrun(
        "train", "--output_dir", "new", "--resume_from_checkpoint", f"{run_id}@latest"
    )

    assert done.code == 0, done.said
    assert_forked(finished, alone, source=source)
    copied = {point for point in before[1] if point[1] <= 12}  # with their time stamps
    assert copied <= set(points_of(finished, run_id))
    assert {row["attempt"] for row in shown(finished, of="new")} == {None, 2}


def test_killed_at_every_moment_it_is_one_fork(finished: Project, alone: Project) -> None:
    source, before = run_of(finished, "out"), source_as_it_is(finished)
    for moment in (
        "fork.brought",
        "run.created",
        "run.noted",
        "checkpoint.saved@12",
        "checkpoint.renamed@12",
        "journal.carried",
        "upload.file!,step@13",
        "upload.manifest@12!,step@13",
        "step@19",
    ):
        done = finished.mmrun(*fork(finished), MMRUN_KILL_AT=moment)
        assert done.code == -9, f"not killed at {moment}: {done.said}"

    done = finished.mmrun(*fork(finished))

    assert done.code == 0, done.said
    assert f"run {run_of(finished, 'new')} is that fork of run {source} already" in done.said
    assert_forked(finished, alone, source=source)
    assert {run.run_id for run in finished.runs()} == {source, run_of(finished, "new")}
    assert source_as_it_is(finished) == before
    assert not (finished.folder / "new/.fork").exists()


def test_what_is_changed_at_a_fork_is_said_and_recorded(killed: Project, alone: Project) -> None:
    before = source_as_it_is(killed)
    source = run_of(killed, "out")

    done = killed.mmrun(
        *fork(killed, "--learning_rate", "0.0005", reference="out/train/checkpoint-18")
    )

    assert done.code == 0, done.said
    assert source_as_it_is(killed) == before
    run = row(killed, run_of(killed, "new"))
    assert f"run {run.run_id}, a fork of {source}@18: attempt 1" in done.said
    assert "changed: training.learning_rate: 0.001 → 0.0005" in done.said
    assert run.params["cfg.training.learning_rate"] == "0.0005"
    record = json.loads(
        (killed.folder / f"mlartifacts/{run.run_id}/artifacts/attempts/1.json").read_text()
    )
    assert record["overrides"] == {"training.learning_rate": ["0.001", "0.0005"]}
    assert record["started_from"] == f"{source}@18.a1"
    history = effective(killed, of="new")
    rates = {step: value for (key, step), value in history.items() if key == "learning_rate"}
    assert rates == {5: 0.001, 10: 0.001, 15: 0.001, 20: 0.0005}
    until = {place: value for place, value in alone.history.items() if place[1] <= 18}
    assert {place: value for place, value in history.items() if place[1] <= 18} == until


def test_the_history_is_that_of_the_way_to_the_checkpoint(killed: Project, alone: Project) -> None:
    killed.train_until(  # which leaves the checkpoint of step 18 behind
        "checkpoint.renamed@18!,step@19",
        *("--resume_from_checkpoint", "12", "--learning_rate", "0.0005"),
    )
    left = "out/train/superseded/a1/checkpoint-18"
    assert run_of(killed, "out") in (killed.folder / left / "manifest.json").read_text()

    done = killed.mmrun(*fork(killed, "--learning_rate", "0.001", reference=left))

    assert done.code == 0, done.said
    assert_forked(killed, alone, at=18, source=run_of(killed, "out"))


def test_a_fork_is_planned_and_nothing_is_made(finished: Project) -> None:
    before = source_as_it_is(finished)
    source = run_of(finished, "out")
    words = fork(finished, "--dry-run", "--learning_rate", "0.0005")

    text, modules = said_and_imported(finished, *words)
    plan = json.loads(finished.mmrun(*words, "--format", "json").said)

    assert HEAVY.isdisjoint(modules)
    assert text.splitlines() == [
        f"run         a new one, a fork of {source}@12",
        "folder      new",
        "attempt     1",
        "checkpoint  checkpoint-12, in the store",
        "rate        step 13: 0.0005 (constant)",
        "changes     training.learning_rate: 0.001 → 0.0005",
    ]
    assert (plan["run_id"], plan["forked_from"]) == (None, f"{source}@12")
    assert (plan["from_step"], plan["again"]) == (12, 0)
    epochs = finished.mmrun(*words, "--num_train_epochs", "3", "--max_steps", "-1").said
    assert "rate        step 13: 0.0005 (constant)" in epochs.splitlines()
    assert not (finished.folder / "new").exists()
    assert source_as_it_is(finished) == before


def test_other_data_behind_the_same_paths_is_refused_as_on_a_resume(finished: Project) -> None:
    sample = finished.folder / "data/train/00003.npy"
    np.save(sample, np.load(sample) * 0.5)

    done = finished.mmrun(*fork(finished))

    assert_refused(done, code=4, naming="the data behind the same paths changed")
    assert [run.run_id for run in finished.runs()] == [run_of(finished, "out")]


def test_a_folder_that_is_not_there_is_named(finished: Project) -> None:
    done = finished.mmrun(*fork(finished, reference="out/train/checkpoint-99"))

    assert_refused(done, code=5, naming="no checkpoint folder out/train/checkpoint-99")
    assert not (finished.folder / "new").exists()
