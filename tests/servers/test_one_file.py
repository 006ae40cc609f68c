"""Trainings of several folders share one SQLite file, which none of them has made before."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.recovery.background import Training
from tests.recovery.project import STEPS, Project

LOSSES = [*range(5, STEPS, 5)]


def test_four_trainings_that_begin_at_once_lose_no_point(small_data: Path, tmp_path: Path) -> None:
    projects = [Project(tmp_path / name) for name in "abcd"]
    for project in projects:
        project.write(small_data)
    file = tmp_path / "shared" / "mlflow.db"
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{file}",
        "MLFLOW_EXPERIMENT_NAME": "new-for-all",
    }

    trainings = [Training(project, **environment) for project in projects]
    done = [training.end() for training in trainings]

    assert [one.code for one in done] == [0, 0, 0, 0], [one.said for one in done]
    said = "".join(one.said for one in done)
    assert "locked" not in said
    assert "not sent" not in said
    with closing(sqlite3.connect(file)) as database:
        names = database.execute(
            "SELECT experiments.name FROM experiments JOIN runs USING (experiment_id)"
        )
        assert names.fetchall() == [("new-for-all",)] * 4
        statuses = database.execute("SELECT run_uuid, status FROM runs").fetchall()
        assert [status for _, status in statuses] == ["FINISHED"] * 4
        for run_id, _ in statuses:
            points = database.execute(
                "SELECT step FROM metrics WHERE run_uuid = ? AND key = 'loss' ORDER BY step",
                (run_id,),
            )
            assert [step for (step,) in points] == LOSSES
