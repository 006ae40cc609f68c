"""``mmrun doctor`` beside real stores: what it says, and that it leaves nothing there."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mmrun.cli.main import run as mmrun
from mmrun.errors import DataError
from mmrun.tracking.mlflow_store import MlflowStore
from mmrun.tracking.run_file import RunFile, write_run_file
from tests.mlflow_server import free_port, mlflow_server


class Clinic:
    """An empty folder in which the doctor is called."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.code = 0
        self._capsys = capsys

    def diagnosis(self, *words: str) -> dict[str, list[dict[str, Any]]]:
        """Return what is found, by what was looked at."""
        self.code = mmrun(["doctor", "--format", "json", *words])
        tree = json.loads(self._capsys.readouterr().out)
        assert tree["exit_code"] == self.code
        found: dict[str, list[dict[str, Any]]] = {}
        for one in tree["findings"]:
            found.setdefault(one["check"], []).append(one)
        return found

    def one(self, check: str, *words: str) -> dict[str, Any]:
        (finding,) = self.diagnosis(*words)[check]
        return finding


@pytest.fixture
def clinic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Clinic]:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "DVC_"))]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Clinic(tmp_path, capsys)
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("doctor")
    with mlflow_server(folder) as uri:
        yield uri, folder


@contextmanager
def answering(code: int, text: str) -> Iterator[str]:
    """Answer every request so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_GET  # noqa: N815 (the library's name)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def files_in(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_nothing_is_wrong_before_the_first_training_and_nothing_is_made(clinic: Clinic) -> None:
    found = clinic.diagnosis("out")

    assert clinic.code == 0
    found.pop("device")  # is the machine's
    assert {one["verdict"] for findings in found.values() for one in findings} == {"ok"}
    assert "the first training makes it" in found["tracking server"][0]["fact"]
    assert list(clinic.folder.iterdir()) == []


def test_a_database_is_tried_and_left_as_it_was(clinic: Clinic) -> None:
    store = MlflowStore(f"sqlite:///{clinic.folder}/mlflow.db")
    store.create(experiment="mmrun", name="kept", tags={})
    before = files_in(clinic.folder)

    found = clinic.diagnosis()

    assert clinic.code == 0
    assert "a file was written, read and deleted" in found["artifact store"][0]["fact"]
    assert files_in(clinic.folder) == before
    (experiment,) = [one for one in store.experiments() if one.name == "mmrun"]
    assert len(store.find(experiment_id=experiment.experiment_id, tags={})) == 1


def test_an_experiment_that_was_deleted_is_not_called_a_new_one(clinic: Clinic) -> None:
    store = MlflowStore(f"sqlite:///{clinic.folder}/mlflow.db")
    run = store.create(experiment="mmrun", name="mine", tags={})
    MlflowClient(store.uri).delete_experiment(run.experiment_id)

    found = clinic.diagnosis()

    assert clinic.code == 6
    (finding,) = found["experiment"]
    assert finding["verdict"] == "fail"
    assert f"--experiment-id {run.experiment_id}" in finding["remedy"]


def test_the_experiment_is_that_of_the_folder_s_run(clinic: Clinic) -> None:
    store = MlflowStore(f"sqlite:///{clinic.folder}/mlflow.db")
    store.create(experiment="mmrun", name="another", tags={})
    run = store.create(experiment="moved", name="mine", tags={})
    store.set_status(run.run_id, "FINISHED")
    record = RunFile(run_id=run.run_id, tracking_uri=store.uri, experiment_id=run.experiment_id)
    write_run_file(clinic.folder / "out", record)

    found = clinic.diagnosis("out")

    assert clinic.code == 0
    assert found["experiment"][0]["fact"].startswith("'moved', id ")
    assert f"belongs to run {run.run_id}, finished" in found["output folder"][0]["fact"]


def test_a_library_that_the_artifact_store_needs_is_named(clinic: Clinic) -> None:
    uri = f"sqlite:///{clinic.folder}/mlflow.db"
    MlflowStore(uri)
    MlflowClient(uri).create_experiment("mmrun", artifact_location="wasbs://c@a.invalid/x")

    found = clinic.one("artifact store")

    assert (clinic.code, found["verdict"]) == (7, "fail")
    assert found["remedy"].startswith("pip install azure")


def test_a_server_is_tried_and_left_as_it_was(clinic: Clinic, server: tuple[str, Path]) -> None:
    uri, folder = server

    found = clinic.diagnosis("--tracking_uri", uri)

    assert clinic.code == 0
    assert "MLflow" in found["tracking server"][0]["fact"]
    assert "here and there" in found["tracking server"][0]["fact"]
    assert found["clock"][0]["fact"] == "within a minute of the server's"
    assert "a file was written, read and deleted" in found["artifact store"][0]["fact"]
    assert files_in(folder / "served") == []


def test_a_path_as_artifact_store_behind_a_server_is_told_for_what_it_is(
    clinic: Clinic, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, folder = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri)
    client.create_experiment("here", artifact_location=(folder / "local").as_uri())
    client.create_experiment("there", artifact_location="file:///nonexistent/of/the/server")

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "here")
    here = clinic.diagnosis()["artifact store"]
    code = clinic.code
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "there")
    there = clinic.one("artifact store")

    assert (code, [one["verdict"] for one in here]) == (0, ["warn", "ok"])
    assert "other machines do not see" in here[0]["fact"]
    assert (clinic.code, there["verdict"]) == (6, "fail")
    assert "--artifacts-destination" in there["remedy"]
    assert not (folder / "local").exists()
    assert not Path("/nonexistent").exists()


def test_a_store_that_cannot_be_written_to_fails(clinic: Clinic) -> None:
    store = MlflowStore(f"sqlite:///{clinic.folder}/mlflow.db")
    (clinic.folder / "mlartifacts").touch()  # a file where the folder should be
    client = MlflowClient(store.uri)
    client.create_experiment("mmrun", artifact_location=(clinic.folder / "mlartifacts").as_uri())

    found = clinic.one("artifact store")

    assert (clinic.code, found["verdict"]) == (6, "fail")


@pytest.mark.parametrize(
    ("code", "text", "fact", "remedy"),
    [
        pytest.param(
            403,
            "Invalid Host header - possible DNS rebinding attack detected",
            "Invalid Host header",
            "--allowed-hosts",
            id="host",
        ),
        pytest.param(
            401, "You are not authenticated", "login", "MLFLOW_TRACKING_USERNAME", id="401"
        ),
        pytest.param(200, "<html>a web shop</html>", "", "MLFLOW_TRACKING_URI", id="no MLflow"),
    ],
)
def test_a_server_that_says_no_is_told_with_what_helps(
    clinic: Clinic, code: int, text: str, fact: str, remedy: str
) -> None:
    with answering(code, text) as uri:
        found = clinic.diagnosis("--tracking_uri", uri)

    assert clinic.code == 6
    (said,) = found["tracking server"]
    assert said["verdict"] == "fail"
    assert fact in said["fact"]
    assert remedy in said["remedy"]
    assert found["device"][0]["verdict"] in {"ok", "warn"}


def test_a_server_that_is_down_is_told_without_its_password(clinic: Clinic) -> None:
    uri = f"postgresql://me:geheimnisvoll@127.0.0.1:{free_port()}/mlflow"

    found = clinic.diagnosis("--tracking_uri", uri)

    assert clinic.code == 6
    assert "does not answer" in found["tracking server"][0]["fact"]
    assert "geheimnisvoll" not in json.dumps(found)


@pytest.mark.parametrize(
    ("name", "words", "code", "verdict"),
    [
        pytest.param("mine.yaml", ("--config_path", "mine.yaml"), 3, "fail", id="named"),
        pytest.param("params.yaml", (), 0, "warn", id="just there"),
    ],
)
def test_an_experiment_file_that_cannot_be_used_is_told(
    clinic: Clinic, name: str, words: tuple[str, ...], code: int, verdict: str
) -> None:
    (clinic.folder / name).write_text("training:\n  lerning_rate: 1\n", encoding="utf-8")

    found = clinic.one("experiment file", *words)

    assert (clinic.code, found["verdict"]) == (code, verdict)
    assert f"{name}:2: training.lerning_rate" in found["fact"]


def test_a_table_that_setup_would_refuse_is_told(clinic: Clinic) -> None:
    (clinic.folder / "train.tsv").write_text("video\ttext\na.mp4\tone\n", encoding="utf-8")
    (clinic.folder / "params.yaml").write_text(
        """\
data: {train_metadata_file: train.tsv}
processor:
  slots:
    - {processor_class: VideoModalityProcessor, output_data_key: input_frames,
       column_map: {clip: signal}}
    - {processor_class: TextModalityProcessor, output_data_key: labels, is_label: true,
       processor_kwargs: {role: target}, column_map: {text: target}}
""",
        encoding="utf-8",
    )

    found = clinic.one("data")

    assert clinic.code == DataError.exit_code
    assert "train.tsv:1: clip: the column is missing; there are video, text" in found["fact"]


def test_what_dvc_knows_of_the_data_is_told(clinic: Clinic) -> None:
    def dvc(*words: str) -> None:
        command = [sys.executable, "-m", "dvc", *words]
        subprocess.run(command, check=True, capture_output=True)

    (clinic.folder / "data").mkdir()
    (clinic.folder / "data/train.tsv").write_text("signal\toutput\n", encoding="utf-8")
    (clinic.folder / "params.yaml").write_text(
        "data:\n  train_metadata_file: data/train.tsv\n", encoding="utf-8"
    )
    dvc("init", "--no-scm")
    untracked = clinic.one("DVC")
    dvc("add", "data")
    clean = clinic.one("DVC")
    (clinic.folder / "data/train.tsv").write_text("signal\toutput\na\tb\n", encoding="utf-8")
    changed = clinic.one("DVC")

    assert (untracked["verdict"], untracked["remedy"]) == ("warn", "dvc add data/train.tsv")
    assert clean["verdict"] == "ok"
    assert changed["verdict"] == "warn"
    assert "data/ (uncommitted modified)" in changed["fact"]
    assert "dvc checkout" in changed["remedy"]
    assert clinic.code == 0
