"""MLflow as it is: databases opened at once, servers that are away, experiments that race."""

import functools
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import cast

import pytest
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.tracking import MlflowClient

from mmrun.errors import TrackingError
from mmrun.tracking.lease import Lease
from mmrun.tracking.mlflow_store import MlflowStore, Repository
from mmrun.tracking.store import Point, Run, UnreachableError
from tests.mlflow_server import free_port

NO_RUN = "0" * 32


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('a project')}/mlflow.db"


@pytest.fixture
def store(uri: str) -> MlflowStore:
    return MlflowStore(uri)


@pytest.fixture
def run(store: MlflowStore) -> Run:
    return store.create(experiment="tests", name="a run", tags={})


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXPERIMENT_ID", "EXPERIMENT_NAME", "TRACKING_USERNAME", "TRACKING_PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_{name}", "")  # so that what the store sets is undone
        monkeypatch.delenv(f"MLFLOW_{name}")


@pytest.fixture
def port() -> int:
    return free_port()


CREATE = """
import sys
from mmrun.tracking.mlflow_store import MlflowStore
store = MlflowStore(sys.argv[1])
run = store.create(experiment="race", name=None, tags={})
sys.stdout.write(run.experiment_id)
"""


def create_in_process(uri: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return subprocess.Popen(
        [sys.executable, "-c", CREATE, uri],
        env={**environment, "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_database_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    killed = subprocess.run(
        [sys.executable, "-c", CREATE, uri],
        env={**os.environ, "MMRUN_KILL_AT": "database.made"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    half_made = tmp_path / ".mlflow.db.new"
    half_made.write_bytes(half_made.read_bytes()[:8192])

    store = MlflowStore(uri)

    run = store.create(experiment="tests", name="a run", tags={})
    assert store.read(run.run_id).name == "a run"
    assert not half_made.exists()


def test_processes_that_open_a_new_database_at_once_all_succeed_and_are_quiet(
    tmp_path: Path,
) -> None:
    racers = [create_in_process(f"sqlite:///{tmp_path}/mlflow.db") for _ in range(3)]

    said = [racer.communicate() for racer in racers]

    assert [racer.returncode for racer in racers] == [0] * 3, said
    assert {experiment for experiment, _ in said} == {"1"}
    assert {errors for _, errors in said} == {""}


def test_artifacts_of_the_embedded_default_lie_beside_the_database(
    store: MlflowStore, run: Run, uri: str
) -> None:
    root = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"

    assert store.raw(run.run_id).info.artifact_uri.startswith(root.as_uri())
    assert (root / run.run_id / "artifacts").is_dir()


def test_the_environment_chooses_the_experiment(
    store: MlflowStore, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    by_name = store.create(experiment="tests", name=None, tags={})
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", run.experiment_id)
    by_id = store.create(experiment="other", name=None, tags={})

    assert by_name.experiment_id != run.experiment_id == by_id.experiment_id


def test_a_deleted_experiment_is_not_used(store: MlflowStore, uri: str) -> None:
    run = store.create(experiment="deleted", name=None, tags={})
    MlflowClient(uri).delete_experiment(run.experiment_id)

    with pytest.raises(TrackingError, match="'deleted' was deleted") as caught:
        store.create(experiment="deleted", name=None, tags={})
    assert f"--experiment-id {run.experiment_id}" in caught.value.hint


def test_a_table_is_read_by_mlflow_itself(
    store: MlflowStore, run: Run, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    columns: dict[str, list[object]] = {
        "prediction": ["four two", "Größe"],
        "score": [0.5, float("nan")],
    }
    store.log_table(run.run_id, columns, path="predictions.json")

    table = MlflowClient(uri).load_table(run.experiment_id, "predictions.json", [run.run_id])

    assert list(table["prediction"]) == columns["prediction"]
    assert list(table["score"].fillna(-1)) == [0.5, -1]


def test_a_deleted_run_can_be_restored(store: MlflowStore, run: Run) -> None:
    store.delete(run.run_id)
    store.restore(run.run_id)

    assert store.read(run.run_id).name == "a run"


def test_of_ten_that_race_for_a_run_one_gets_it(store: MlflowStore, run: Run) -> None:
    start = threading.Barrier(10)
    won: list[Lease] = []

    def race() -> None:
        lease = Lease(store, run.run_id)
        start.wait()
        try:
            lease.acquire()
        except TrackingError:
            return
        won.append(lease)

    threads = [threading.Thread(target=race) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    won[0].release()


def test_artifacts_on_a_disk_that_is_not_there_are_not_taken_for_none(
    store: MlflowStore, run: Run, uri: str
) -> None:
    folder = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" / run.run_id
    folder.rename(folder.with_name("unmounted"))

    with pytest.raises(UnreachableError, match="which is not there"):
        store.artifacts(run.run_id).list("checkpoints")
    with pytest.raises(UnreachableError, match="which is not there"):
        store.artifacts(run.run_id).read("checkpoints/checkpoint-5/manifest.json")


def test_a_run_that_mlflow_made_has_no_artifacts_yet(store: MlflowStore, uri: str) -> None:
    adopted = MlflowClient(uri).create_run("0").info.run_id

    assert store.artifacts(adopted).list() == []


@pytest.mark.parametrize(
    "address", ["http://ann:secret@127.0.0.1:{}", "postgresql://ann:secret@127.0.0.1:{}/runs"]
)
def test_a_dead_server_is_said_in_time_and_without_its_password(address: str, port: int) -> None:
    begun = time.monotonic()

    with pytest.raises(UnreachableError, match=rf"127\.0\.0\.1:{port}.* does not answer") as caught:
        MlflowStore(address.format(port), patience_s=1).read(NO_RUN)

    assert time.monotonic() - begun < 15
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert "MLFLOW_TRACKING_URI" in caught.value.hint


def test_a_server_that_takes_calls_and_never_answers_counts_as_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = MlflowStore(f"http://127.0.0.1:{silent.getsockname()[1]}", patience_s=0)

        with pytest.raises(UnreachableError, match=r"does not answer: .*timed out"):
            store.read(NO_RUN)


def test_a_server_that_is_not_mlflow_is_said_to_be_so(tmp_path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        store = MlflowStore(f"http://127.0.0.1:{other.server_port}", patience_s=0)

        with pytest.raises(TrackingError, match="is not an MLflow tracking server"):
            store.read(NO_RUN)
        other.shutdown()


def test_points_do_not_wait_for_a_dead_server(port: int) -> None:
    store = MlflowStore(f"http://127.0.0.1:{port}", patience_s=60)
    begun = time.monotonic()

    with pytest.raises(UnreachableError, match="does not answer"):
        store.log_points(NO_RUN, [Point(key="loss", step=1, timestamp_ms=1, value=1.0)])

    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("./mlruns", "no longer keeps runs in plain folders"),
        ("nonsense://x", "is not an MLflow tracking server"),
        ("sqlite:////proc/none/mlflow.db", "cannot open"),
    ],
)
def test_an_address_that_cannot_work_is_refused(address: str, problem: str) -> None:
    with pytest.raises(TrackingError, match=problem) as caught:
        MlflowStore(address, patience_s=0)

    assert caught.value.hint


class Losing:
    """Artifacts of which each is removed by somebody else when it is asked for."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self.list_artifacts = repository.list_artifacts
        self.log_artifact = repository.log_artifact
        self.delete_artifacts = repository.delete_artifacts

    def download_artifacts(self, artifact_path: str, dst_path: str) -> str:
        self._repository.delete_artifacts(artifact_path)
        return self._repository.download_artifacts(artifact_path, dst_path)


class LosingStore(MlflowStore):
    def repository(self, artifact_uri: str) -> Repository:
        return Losing(super().repository(artifact_uri))


def test_what_goes_away_while_it_is_read_is_not_there(
    store: MlflowStore, run: Run, uri: str
) -> None:
    store.artifacts(run.run_id).write("marks/one", b"here")

    assert LosingStore(uri).artifacts(run.run_id).read("marks/one") is None


class Keeping(LocalArtifactRepository):
    """Artifacts in a back-end that MLflow cannot delete from."""

    delete_artifacts = ArtifactRepository.delete_artifacts


class KeepingStore(MlflowStore):
    def repository(self, artifact_uri: str) -> Repository:
        return cast("Repository", Keeping(artifact_uri))


def test_a_store_that_cannot_delete_says_so_and_what_to_do(
    store: MlflowStore, run: Run, uri: str
) -> None:
    store.artifacts(run.run_id).write("marks/one", b"here")

    with pytest.raises(TrackingError, match="cannot delete files") as caught:
        KeepingStore(uri).artifacts(run.run_id).delete("marks/one")

    assert "the tools of that store" in caught.value.hint
    assert store.artifacts(run.run_id).read("marks/one") == b"here"
