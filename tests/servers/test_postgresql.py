"""A run in PostgreSQL, behind a server and without one, is killed and goes on."""

import shutil

from tests.recovery.project import Project, assert_one_run_like
from tests.servers.served import Database, Served

KILLED = "upload.manifest@6,step@7,upload.manifest@12,step@14"


def test_a_run_behind_a_server_goes_on_in_its_folder(served: Served, alone: Project) -> None:
    served.train_until(KILLED)

    served.train_to_the_end()

    assert_one_run_like(served, alone)


def test_a_run_behind_a_server_goes_on_on_an_empty_disk(served: Served, alone: Project) -> None:
    served.train_until(KILLED)
    shutil.rmtree(served.out)

    said = served.train_to_the_end("--resume_from_checkpoint", f"{served.run.run_id}@latest")

    assert "attempt 2, from step 12" in said
    assert_one_run_like(served, alone)


def test_a_run_in_a_database_without_a_server_goes_on(
    project: Project, database: Database, alone: Project
) -> None:
    direct = Served(project, database, MLFLOW_TRACKING_URI=database.uri)
    direct.train_until(KILLED)

    direct.train_to_the_end()

    assert_one_run_like(direct, alone)
