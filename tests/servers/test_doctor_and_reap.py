"""What died is told behind a real server, and what works is tried and left as it was."""

import json

import pytest

from tests.mlflow_server import MlflowServer
from tests.postgres import Postgres
from tests.recovery.project import Project
from tests.s3 import S3
from tests.servers.served import Database, Served

BUCKET = "artifacts-of-the-doctor"
WAYS = {
    "passed on": ("--artifacts-destination", f"s3://{BUCKET}/served"),
    "direct": ("--no-serve-artifacts", "--default-artifact-root", f"s3://{BUCKET}/direct"),
}


def test_a_killed_run_behind_a_server_is_listed_and_reaped_and_goes_on(served: Served) -> None:
    served.train_until("upload.manifest@6,step@7,upload.manifest@12,step@14")

    listed = served.mmrun("runs", "--format", "json")
    done = served.mmrun("reap")
    reaped = served.run
    again = served.mmrun("reap")
    served.train_to_the_end()

    (run,) = json.loads(listed.said)["runs"]
    assert run["state"] == "dead"
    assert run["latest"] in {"checkpoint-6", "checkpoint-12"}  # the tag comes after the upload
    assert done.code == 0, done.said
    assert (reaped.status, reaped.tags["mmrun.status"]) == ("KILLED", "killed")
    assert "nothing to do" in again.said
    assert served.run.status == "FINISHED"
    assert not served.logged_twice()


@pytest.mark.parametrize("way", WAYS)
def test_artifacts_in_s3_are_tried_and_left_as_they_were(
    project: Project, database: Database, s3: S3, way: str
) -> None:
    s3.make_bucket(BUCKET)
    server = MlflowServer(
        project.folder / "server",
        backend=database.uri,
        options=WAYS[way],
        environment=s3.environment,
    )
    server.start()
    told = {"MLFLOW_TRACKING_URI": server.uri, **(s3.environment if way == "direct" else {})}
    done = project.mmrun("doctor", **told)
    server.kill()

    assert done.code == 0, done.said
    assert "a file was written, read and deleted" in done.said
    assert "MLflow" in done.said
    assert s3.content(BUCKET) == {}


def test_a_bucket_that_is_not_there_is_told(project: Project, database: Database, s3: S3) -> None:
    server = MlflowServer(
        project.folder / "server",
        backend=database.uri,
        options=("--no-serve-artifacts", "--default-artifact-root", "s3://no-such-bucket/x"),
        environment=s3.environment,
    )
    server.start()
    done = project.mmrun("doctor", MLFLOW_TRACKING_URI=server.uri, **s3.environment)
    server.kill()

    assert done.code == 6, done.said
    (line,) = [line for line in done.said.splitlines() if "artifact store" in line]
    assert line.startswith("fail")
    assert "no-such-bucket" in line


def test_a_database_without_its_server_is_tried_as_well(
    project: Project, database: Database, database_server: Postgres
) -> None:
    done = project.mmrun("doctor", MLFLOW_TRACKING_URI=database.uri)

    assert "ok    tracking server  postgresql" in done.said
    assert database_server.password not in done.said
