"""A run in PostgreSQL, behind a server and without one, is killed and goes on."""

import shutil

import pytest

from tests.ports import free_port
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
    direct = Served(project, database, {"MLFLOW_TRACKING_URI": database.uri})
    direct.train_until(KILLED)

    direct.train_to_the_end()

    assert_one_run_like(direct, alone)


REFUSED = {
    "a wrong password": ("ann:wrong", "runs_1", "password authentication failed"),
    "an unknown database": (None, "nowhere", "does not exist"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_database_that_says_no_is_an_error_at_once(
    project: Project, database: Database, what: str
) -> None:
    login, name, problem = REFUSED[what]
    uri = database.server.uri(name)
    if login is not None:
        uri = uri.replace(f"ann:{database.server.password}", login)

    done = project.train(MLFLOW_TRACKING_URI=uri)

    assert done.code == 6, done.said
    error, hint = done.said.splitlines()[-2:]
    assert error.startswith("error: postgresql://ann:***@127.0.0.1:")
    assert problem in error
    assert hint.startswith("  try: check user, password and database")
    assert database.server.password not in done.said


def test_a_database_that_is_down_is_an_error_at_once(project: Project) -> None:
    uri = f"postgresql://ann:secret-word@127.0.0.1:{free_port()}/runs"

    done = project.train(MLFLOW_TRACKING_URI=uri)

    assert done.code == 6, done.said
    assert "error: the tracking server at postgresql://ann:***@127.0.0.1:" in done.said
    assert "does not answer: " in done.said
    assert not project.out.exists()


def test_a_driver_that_is_missing_is_named(project: Project) -> None:
    uri = f"postgresql+psycopg2://ann:secret-word@127.0.0.1:{free_port()}/runs"

    done = project.train(MLFLOW_TRACKING_URI=uri)

    assert done.code == 7, done.said
    assert "needs the package psycopg2, which is not installed" in done.said
    assert "  try: pip install psycopg2-binary" in done.said


def test_a_later_command_is_told_that_the_password_was_not_kept(
    project: Project, database: Database
) -> None:
    direct = Served(project, database, {"MLFLOW_TRACKING_URI": database.uri})
    direct.train_until("upload.manifest@6,step@7")

    without = project.train()

    assert database.server.password not in (project.out / "run.json").read_text()
    assert without.code == 6, without.said
    assert "is what was recorded of the address, without its password" in without.said
    assert "  try: set MLFLOW_TRACKING_URI to the whole address" in without.said
