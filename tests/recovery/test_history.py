"""``mmrun history``: one line for a run, however often it was interrupted."""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmrun.tracking.attempts import is_timing
from mmrun.tracking.journal import Journal, read_journals
from mmrun.tracking.store import Point
from tests.mlflow_server import free_port
from tests.recovery.project import History, Project
from tests.recovery.test_dry_run import HEAVY, said_and_imported


def shown(project: Project, *options: str, of: str = "out") -> Sequence[Mapping[str, Any]]:
    done = project.mmrun("history", of, "--format", "json", *options)
    assert done.code == 0, done.said
    rows: list[dict[str, Any]] = json.loads(done.said)
    return rows


def effective(project: Project, *, of: str = "out") -> History:
    """Return the values that the command shows, timing aside; each place may be there once."""
    rows = shown(project, of=of)
    assert not [p for p, n in Counter((r["metric"], r["step"]) for r in rows).items() if n > 1]
    return {(r["metric"], r["step"]): r["value"] for r in rows if not is_timing(r["metric"])}


def values(project: Project, metric: str, *options: str) -> list[tuple[int, float, int | None]]:
    rows = shown(project, "--metric", metric, *options)
    return [(row["step"], row["value"], row["attempt"]) for row in rows]


def test_killed_and_resumed_it_is_that_of_the_run_left_alone(
    killed: Project, alone: Project
) -> None:
    killed.train_until("step@22", "--resume_from_checkpoint", "12")
    killed.train_to_the_end()

    assert effective(killed) == alone.history
    assert effective(killed, of=killed.run.run_id) == alone.history
    assert {row["attempt"] for row in shown(killed)} == {1, 2, 3}


def test_what_another_machine_confirmed_before_it_died_counts(
    killed: Project, alone: Project
) -> None:
    first = f"{killed.run.run_id}@6"
    shutil.rmtree(killed.out)
    killed.train_until("upload.manifest@18,step@20", "--resume_from_checkpoint", first)
    shutil.rmtree(killed.out)

    killed.train_to_the_end("--resume_from_checkpoint", f"{killed.run.run_id}@latest")

    assert killed.attempt(3)["started_from"] == f"{killed.run.run_id}@18.a2"
    assert effective(killed) == alone.history


def test_while_it_is_resumed_what_was_not_done_again_yet_does_not_count(killed: Project) -> None:
    killed.train_until("step@14", "--resume_from_checkpoint", "12")

    assert [step for step, *_ in values(killed, "eval_loss")] == [4, 8, 12]
    assert [step for step, *_ in values(killed, "eval_loss", "--all-attempts")] == [4, 8, 12, 16]


def test_after_a_change_the_new_values_count_and_the_old_ones_are_kept(killed: Project) -> None:
    killed.train_to_the_end("--learning_rate", "0.0005", "--resume_from_checkpoint", "12")

    assert values(killed, "learning_rate") == [
        (5, 0.001, 1),
        (10, 0.001, 1),
        (15, 0.0005, 2),
        (20, 0.0005, 2),
    ]
    assert values(killed, "learning_rate", "--all-attempts") == [
        (5, 0.001, 1),
        (10, 0.001, 1),
        (15, 0.001, 1),
        (15, 0.0005, 2),
        (20, 0.0005, 2),
    ]


def test_it_follows_a_resume_from_a_superseded_checkpoint(killed: Project, alone: Project) -> None:
    killed.train_until("step@17", "--resume_from_checkpoint", "12", "--learning_rate", "0.0005")

    killed.train_to_the_end("--resume_from_checkpoint", f"{killed.run.run_id}@18.a1")

    assert effective(killed) == alone.history
    assert (15, 0.0005, 2) in values(killed, "learning_rate", "--all-attempts")


def test_csv_has_every_number_bit_for_bit(killed: Project) -> None:
    odd = [
        Point(key="odd", step=1, timestamp_ms=1, value=float(v)) for v in ("nan", "-inf", "5e-324")
    ]
    journal = Journal(killed.out / "journal", attempt=1)
    journal.append(odd)

    said = killed.mmrun("history", "out", "--all-attempts", "--format", "csv").said

    rows = list(csv.DictReader(io.StringIO(said)))
    assert list(rows[0]) == ["metric", "step", "value", "attempt", "timestamp_ms"]
    logged = {(p.key, p.step, repr(p.value)) for p in read_journals(journal.folder)[1]}
    written = [(r["metric"], int(r["step"]), repr(float(r["value"]))) for r in rows]
    assert sorted(written) == sorted(logged)
    assert [row["value"] for row in shown(killed, "--all-attempts", "--metric", "odd")] == [
        "NaN",
        "-Infinity",
        5e-324,
    ]


def test_without_its_store_a_folder_shows_what_it_has(killed: Project, alone: Project) -> None:
    killed.train_to_the_end()

    away = f"http://127.0.0.1:{free_port()}"
    done = killed.mmrun("history", "out", "--tracking_uri", away, "--metric", "loss")

    assert done.code == 0, done.said
    warning, header, *lines = done.said.splitlines()
    assert warning.startswith("warning: the store could not be reached")
    assert header.split() == ["METRIC", "STEP", "VALUE", "ATTEMPT", "TIME"]
    losses = {step: value for (key, step), value in alone.history.items() if key == "loss"}
    assert {int(line.split()[1]): float(line.split()[2]) for line in lines} == losses


def test_it_imports_nothing_heavy(killed: Project) -> None:
    said, modules = said_and_imported(killed, "history", "out", "--metric", "eval_loss")

    assert said.startswith("METRIC")
    assert HEAVY.isdisjoint(modules)


def test_what_cannot_be_shown_is_said_in_two_lines(killed: Project) -> None:
    for words, problem, hint in (
        (["out", "--metric", "lose"], "the run has no metric 'lose'", "--metric loss"),
        (["f" * 32], "is neither an output folder nor a run", ""),
        (["nowhere"], "'nowhere' is neither an output folder nor the id of a run", "give the"),
        (["data"], "data has neither a run.json nor a checkpoint", "give the folder"),
    ):
        done = killed.mmrun("history", *words)

        assert done.code == 2, done.said
        error, advice = done.said.splitlines()
        assert problem in error
        assert advice.startswith(f"  try: {hint}")
