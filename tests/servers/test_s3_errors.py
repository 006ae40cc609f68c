"""What is said of a store of files that MLflow asks without a server in between."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from mmrun.errors import TrackingError
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.store import ArtifactStore, UnreachableError
from tests.ports import free_port
from tests.s3 import S3, s3_server

BUCKET = "artifacts-of-tests"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("files")) as server:
        server.make_bucket(BUCKET)
        yield server


def artifacts(uri: str, *, bucket: str = BUCKET) -> ArtifactStore:
    store = MlflowStore(uri, patience_s=0)
    mlflow.MlflowClient(uri).create_experiment("direct", artifact_location=f"s3://{bucket}/x")
    run = store.create(experiment="direct", name="a run", tags={})
    return store.artifacts(run.run_id)


@pytest.fixture
def uri(files: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name, value in {**files.environment, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_a_store_that_is_down_is_unreachable_and_never_empty(
    uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    stored = artifacts(uri)

    for ask in (
        lambda: stored.list("checkpoints"),
        lambda: stored.read("checkpoints/a"),
        lambda: stored.write("checkpoints/a", b"a"),
    ):
        with pytest.raises(UnreachableError, match="the artifact store does not answer") as caught:
            ask()
        assert "MLFLOW_S3_ENDPOINT_URL" in caught.value.hint


def test_a_bucket_that_is_not_there_is_a_refusal(uri: str) -> None:
    with pytest.raises(TrackingError, match="NoSuchBucket") as caught:
        artifacts(uri, bucket="nowhere").write("checkpoints/a", b"a")

    assert not isinstance(caught.value, UnreachableError)


LIST = """\
import sys
if "without boto3" in sys.argv:
    sys.modules["boto3"] = None
import mlflow
from mmrun.errors import MmrunError
from mmrun.tracking.mlflow_store import MlflowStore
store = MlflowStore(sys.argv[1], patience_s=0)
mlflow.MlflowClient(sys.argv[1]).create_experiment("direct", artifact_location="s3://some/x")
run = store.create(experiment="direct", name="a run", tags={})
try:
    store.artifacts(run.run_id).list("checkpoints")
except MmrunError as error:
    sys.stdout.write(f"{error.exit_code} {error} / {error.hint}")
"""
"""In a process of its own: boto3 keeps what it was told first."""


def listing(uri: str, *words: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", LIST, uri, *words], capture_output=True, text=True, check=True
    )
    return finished.stdout


def test_keys_that_nobody_has_given_are_asked_for(
    uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))

    said = listing(uri)

    assert said.startswith("6 the artifact store refused the request: Unable to locate credentials")
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said


def test_without_boto3_the_extra_is_named(uri: str) -> None:
    assert listing(uri, "without boto3") == (
        "7 the artifact store needs the package boto3, which is not installed"
        " / pip install 'mmrun[s3]'"
    )
