"""`dvc repro`: continues after an interruption, extends, and else starts a new run."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one `dvc repro` led to."""

    code: int
    output: str
    run_id: str
    status: str
    lineage: tuple[tuple[int, int], ...]
    losses: list[int]
    trainings: int


def _reproduce(project: Project, **environment: str) -> Seen:
    result = project.run("dvc", "repro", environment=environment)
    record = project.record
    return Seen(
        code=result.returncode,
        output=result.stdout,
        run_id=record.run_id,
        status=project.store.read(record.run_id).status,
        lineage=record.lineage,
        losses=project.steps(record.run_id),
        trainings=len(project.trainings()),
    )


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Go through the life of a project once; the tests look at its stations."""
    project = Project(tmp_path_factory.mktemp("dvc") / "project")
    project.done("dvc", "init", "--no-scm", "--quiet")
    seen = {"killed": _reproduce(project, MMRUN_KILL_AT="checkpoint.renamed@10")}
    seen["resumed"] = _reproduce(project)
    seen["unchanged"] = _reproduce(project)
    project.change("max_steps: 20", "max_steps: 30")
    seen["extended"] = _reproduce(project)
    project.change("learning_rate: 0.001", "learning_rate: 0.0005")
    seen["changed"] = _reproduce(project)
    return seen


def test_a_killed_training_fails_the_pipeline(pipeline: dict[str, Seen]) -> None:
    assert pipeline["killed"].code == 255


def test_the_next_reproduction_continues_the_run(pipeline: dict[str, Seen]) -> None:
    killed, resumed = pipeline["killed"], pipeline["resumed"]

    assert resumed.code == 0, resumed.output
    assert (resumed.run_id, resumed.status) == (killed.run_id, "FINISHED")
    assert resumed.lineage == ((1, 0), (2, 10))
    assert resumed.losses == [5, 10, 15, 20]


def test_without_a_change_nothing_is_done(pipeline: dict[str, Seen]) -> None:
    assert "Data and pipelines are up to date" in pipeline["unchanged"].output


def test_a_longer_training_continues_the_run(pipeline: dict[str, Seen]) -> None:
    resumed, extended = pipeline["resumed"], pipeline["extended"]

    assert extended.code == 0, extended.output
    assert (extended.run_id, extended.status) == (resumed.run_id, "FINISHED")
    assert extended.losses == [5, 10, 15, 20, 25, 30]


def test_any_other_change_starts_a_new_run(pipeline: dict[str, Seen]) -> None:
    extended, changed = pipeline["extended"], pipeline["changed"]

    assert changed.code == 0, changed.output
    assert changed.run_id != extended.run_id
    assert (changed.trainings, changed.lineage) == (2, ((1, 0),))
    assert changed.losses == [5, 10, 15, 20, 25, 30]


def test_dvc_knows_the_scores(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    scores = project.folder / "outputs/demo/generate/scores.json"
    scores.parent.mkdir(parents=True)
    scores.write_text('{"exact_match": 0.5}', encoding="utf-8")
    project.done("dvc", "init", "--no-scm", "--quiet")

    assert "exact_match" in project.done("dvc", "metrics", "show")
