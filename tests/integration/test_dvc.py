"""`dvc repro`: continues after an interruption, extends, and else starts a new run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one command of DVC led to."""

    code: int
    output: str
    run_id: str
    status: str
    lineage: tuple[tuple[int, int], ...]
    losses: list[int]
    rate: str
    runs: int


def _after(project: Project, output: str, *, code: int = 0) -> Seen:
    training = project.training
    return Seen(
        code=code,
        output=output,
        run_id=training.run_id,
        status=training.status,
        lineage=project.record.lineage,
        losses=project.steps(training.run_id),
        rate=training.params["cfg.training.learning_rate"],
        runs=len(project.runs()),
    )


def _reproduced(project: Project, *targets: str, **environment: str) -> Seen:
    result = project.run("dvc", "repro", *targets, environment=environment)
    return _after(project, result.stdout, code=result.returncode)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Seen]:
    """Go through the life of a project once; the tests look at its stations."""
    project = Project(tmp_path_factory.mktemp("dvc") / "project")
    project.start_git()
    project.done("dvc", "init", "--quiet")
    project.commit("A project")
    seen = {"killed": _reproduced(project, MMRUN_KILL_AT="checkpoint.renamed@10")}
    seen["resumed"] = _reproduced(project)
    seen["unchanged"] = _reproduced(project)
    project.change(**{"training.max_steps": 30})
    seen["extended"] = _reproduced(project, "train")
    project.change(**{"training.learning_rate": 0.0005})
    seen["changed"] = _reproduced(project, "train")
    project.commit("Another rate")
    said = project.done("dvc", "exp", "run", "-S", "training.learning_rate=0.00025", "train")
    seen["experiment"] = _after(project, said)
    project.change(**{"training.max_steps": 100000})
    seen["stopped"] = _after(project, project.interrupt("dvc", "repro", at="step 40:"))
    return seen


def test_a_killed_training_fails_the_pipeline(pipeline: Mapping[str, Seen]) -> None:
    assert pipeline["killed"].code == 255


def test_the_next_reproduction_continues_the_run(pipeline: Mapping[str, Seen]) -> None:
    killed, resumed = pipeline["killed"], pipeline["resumed"]

    assert resumed.code == 0, resumed.output
    assert (resumed.run_id, resumed.status) == (killed.run_id, "FINISHED")
    assert resumed.lineage == ((1, 0), (2, 10))
    assert resumed.losses == [5, 10, 15, 20]


def test_without_a_change_nothing_is_done(pipeline: Mapping[str, Seen]) -> None:
    assert "Data and pipelines are up to date" in pipeline["unchanged"].output


def test_a_longer_training_continues_the_run(pipeline: Mapping[str, Seen]) -> None:
    resumed, extended = pipeline["resumed"], pipeline["extended"]

    assert extended.code == 0, extended.output
    assert (extended.run_id, extended.status) == (resumed.run_id, "FINISHED")
    assert extended.losses == [5, 10, 15, 20, 25, 30]


def test_any_other_change_starts_a_new_run(pipeline: Mapping[str, Seen]) -> None:
    extended, changed = pipeline["extended"], pipeline["changed"]

    assert changed.code == 0, changed.output
    assert changed.run_id != extended.run_id
    assert (changed.runs, changed.lineage, changed.rate) == (2, ((1, 0),), "0.0005")
    assert changed.losses == [5, 10, 15, 20, 25, 30]


def test_an_experiment_of_dvc_is_a_new_run(pipeline: Mapping[str, Seen]) -> None:
    experiment = pipeline["experiment"]

    assert experiment.run_id != pipeline["changed"].run_id
    assert (experiment.runs, experiment.lineage, experiment.rate) == (3, ((1, 0),), "0.00025")
    assert experiment.status == "FINISHED"


def test_a_training_does_not_outlive_dvc(pipeline: Mapping[str, Seen]) -> None:
    stopped = pipeline["stopped"]

    assert "stopped by the end of its launcher at step" in stopped.output
    assert stopped.status == "KILLED"


def test_dvc_knows_the_scores(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    scores = project.folder / "outputs/demo/generate/scores.json"
    scores.parent.mkdir(parents=True)
    scores.write_text('{"exact_match": 0.5}', encoding="utf-8")
    project.done("dvc", "init", "--no-scm", "--quiet")

    assert "exact_match" in project.done("dvc", "metrics", "show")
