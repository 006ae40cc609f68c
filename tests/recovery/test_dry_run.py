"""A dry run answers before the heavy libraries could, and says everything that it decided."""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.spool import Spool
from mmrun.workflows.plan import Plan
from tests.recovery.damage import cut, flip
from tests.recovery.project import Project, outside

HEAVY = {"torch", "transformers", "datasets"}
IN_JSON = ("--format", "json")
CONSTANT = {"schedule": "constant", "total": 23, "stopped_early": False}


def dry_run(project: Project, *options: str) -> tuple[str, Collection[str]]:
    """Return what a dry run says, and every module that it imported."""
    return said_and_imported(
        project, "train", "--config_path", "experiment.yaml", "--dry-run", *options
    )


def said_and_imported(project: Project, *words: str) -> tuple[str, Collection[str]]:
    """Return what a command says, which must succeed, and every module that it imported."""
    code = f"from mmrun.cli.main import run; code = run({list(words)!r})"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(); print(code, *sys.modules)"],
        cwd=project.folder,
        env=outside(),
        capture_output=True,
        text=True,
        check=True,
    )
    *said, last = done.stdout.splitlines()
    exit_code, *modules = last.split()
    assert exit_code == "0", done.stderr
    return "\n".join(said), modules


def planned(project: Project, *options: str) -> Mapping[str, Any]:
    plan: dict[str, Any] = json.loads(dry_run(project, *IN_JSON, *options)[0])
    return plan


@pytest.mark.parametrize("options", [(), IN_JSON], ids=["table", "json"])
@pytest.mark.parametrize("begun", ["project", "killed"])
def test_a_dry_run_imports_nothing_heavy(
    request: pytest.FixtureRequest, begun: str, options: tuple[str, ...]
) -> None:
    _, modules = dry_run(request.getfixturevalue(begun), *options)

    assert HEAVY.isdisjoint(modules)


def test_a_new_run_has_every_field_of_a_plan(project: Project) -> None:
    plan = planned(project)

    assert plan == {
        "run_id": None,
        "output_dir": "out",
        "attempt": 1,
        "checkpoint": None,
        "where": None,
        "from_step": 0,
        "forked_from": None,
        "rejected": [],
        "again": 0,
        "changed": {},
        "data_changed": False,
        "code": None,
        "uncommitted": False,
        "versions": {},
        "next_rate": {**CONSTANT, "step": 1, "rate": 0.001},
        "done": False,
    }
    assert list(plan) == [field.name for field in fields(Plan)]
    assert not project.out.exists()


def test_a_resume_has_every_field_of_a_plan(killed: Project) -> None:
    plan = planned(killed, "--learning_rate", "0.002")

    assert list(plan) == [field.name for field in fields(Plan)]
    assert (plan["run_id"], plan["attempt"]) == (killed.run.run_id, 2)
    assert (plan["checkpoint"], plan["where"], plan["from_step"]) == ("checkpoint-18", "local", 18)
    assert plan["again"] == 0  # nothing is known of what came after it
    assert plan["changed"] == {"training.learning_rate": ["0.001", "0.002"]}
    assert plan["versions"] == {}
    assert plan["next_rate"] == {**CONSTANT, "step": 19, "rate": 0.002}
    assert plan["done"] is False


def test_a_whole_copy_that_waits_for_the_store_is_planned_with(killed: Project) -> None:
    checkpoint = LocalCheckpoints(killed.out / "train").path("checkpoint-18")
    Spool(killed.out / "spool").add(checkpoint, manifests.read(checkpoint))
    (checkpoint / "optimizer.pt").unlink()

    plan = planned(killed)

    assert (plan["checkpoint"], plan["where"], plan["from_step"]) == (
        "checkpoint-18.a1",
        "local",
        18,
    )
    assert [line.partition(":")[0] for line in plan["rejected"]] == ["checkpoint-18 (here)"]


def test_newer_checkpoints_that_are_passed_over_are_named_with_the_reason(killed: Project) -> None:
    flip(killed.out / "train/checkpoint-18/optimizer.pt")
    cut(killed.artifact("checkpoints/checkpoint-18/trainer_state.json"))

    plan = planned(killed)
    text, _ = dry_run(killed)

    assert (plan["checkpoint"], plan["from_step"], plan["again"]) == ("checkpoint-12", 12, 6)
    here, stored = plan["rejected"]
    assert here.startswith("checkpoint-18 (here): optimizer.pt is damaged")
    assert stored.startswith("checkpoint-18 (in the store): trainer_state.json ")
    assert f"  passed over: {here}" in text.splitlines()
    assert f"  passed over: {stored}" in text.splitlines()
    assert "checkpoint  checkpoint-12, local" in text
    assert "again       steps 13 to 18, which were done before" in text
