"""Checkpoints in S3: passed on by the MLflow server, and sent there directly."""

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.mlflow_server import MlflowServer
from tests.postgres import Postgres
from tests.recovery.project import Project, assert_one_run_like
from tests.s3 import S3, SECRET
from tests.servers.served import Database, Served

BUCKET = "checkpoints-of-tests"
WAYS = {
    "passed on": ("--artifacts-destination", f"s3://{BUCKET}/served"),
    "direct": ("--no-serve-artifacts", "--default-artifact-root", f"s3://{BUCKET}/direct"),
}


@pytest.fixture(scope="module", params=WAYS)
def on_s3(
    request: pytest.FixtureRequest,
    database_server: Postgres,
    s3: S3,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[MlflowServer, Database, dict[str, str]]]:
    """A server whose artifacts are in S3, and what its clients must be told."""
    s3.make_bucket(BUCKET)
    database = Database(database_server, database_server.new_database())
    server = MlflowServer(
        tmp_path_factory.mktemp("on-s3"),
        backend=database.uri,
        options=WAYS[request.param],
        environment=s3.environment,
    )
    server.start()
    told = dict(s3.environment) if request.param == "direct" else {}
    yield server, database, {"MLFLOW_TRACKING_URI": server.uri, **told}
    server.kill()


@pytest.fixture
def stored(project: Project, on_s3: tuple[MlflowServer, Database, dict[str, str]]) -> Served:
    """A project whose checkpoints go to S3."""
    _, database, environment = on_s3
    return Served(project, database, environment)


def said_by(served: Served, *words: str) -> str:
    done = served.mmrun(*words)
    assert done.code == 0, done.said
    return done.said


def test_a_run_killed_during_an_upload_goes_on_on_an_empty_disk(
    stored: Served, alone: Project, s3: S3
) -> None:
    stored.train_until("upload.manifest@6,step@7,upload.files@12!,step@13")
    shutil.rmtree(stored.out)
    run_id = stored.run.run_id

    said = stored.train_to_the_end("--resume_from_checkpoint", f"{run_id}@latest")

    assert "attempt 2, from step 6" in said
    assert_one_run_like(stored, alone)
    verified = said_by(stored, "checkpoints", "verify", run_id)
    assert "checkpoint-23 (in the store): whole" in verified
    assert all(line.endswith("(in the store): whole") for line in verified.splitlines())
    said_by(stored, "checkpoints", "pull", f"{run_id}@18", "pulled")
    assert (stored.folder / "pulled/optimizer.pt").exists()
    said_by(stored, "checkpoints", "prune", run_id, "--keep_last", "1", "--keep_best", "0")
    left = [key for key in s3.content(BUCKET) if run_id in key and "/checkpoints/" in key]
    assert {key.split("/checkpoints/")[1].split("/")[0] for key in left} == {
        "checkpoint-23",
        "index.json",
    }
    secret = SECRET.encode()
    assert not [key for key, content in s3.content(BUCKET).items() if secret in content]
    assert secret.decode() not in json.dumps([dict(stored.run.params), dict(stored.run.tags)])
