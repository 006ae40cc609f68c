"""The tracking server, with the artifacts behind it, goes away during a training."""

import re
from pathlib import Path

import pytest

from mmrun.tracking.mlflow_store import MlflowStore
from tests.mlflow_server import free_port, mlflow_server
from tests.recovery.background import Training
from tests.recovery.project import Project


def steps_of(store: MlflowStore, run_id: str, key: str) -> list[int]:
    return [point.step for point in store.history(run_id, key)]


def run_id_in(text: str) -> str:
    found = re.search(r"\brun ([0-9a-f]{32})", text)
    assert found, text
    return found[1]


@pytest.fixture
def slow(project: Project) -> Project:
    """A training of some seconds: there is time for a server to go and come."""
    project.change("    d_model: 32\n", "    d_model: 128\n")
    project.change("    encoder_ffn_dim: 64\n", "    encoder_ffn_dim: 1024\n")
    project.change("  metric_for_best_model: eval_loss\n", "")
    return project


LONG = ("--max_steps", "300", "--save_steps", "30", "--logging_steps", "10")
NO_EVALUATION = ("--eval_strategy", "no")


def test_a_server_that_is_away_for_a_while_costs_no_step_and_no_checkpoint(
    slow: Project, tmp_path: Path
) -> None:
    port = free_port()
    with mlflow_server(tmp_path / "server", port=port) as uri:
        training = Training(slow, *LONG, *NO_EVALUATION, MLFLOW_TRACKING_URI=uri)
        training.wait_for("step 40:")
    training.wait_for("step 120:")  # it goes on meanwhile
    with mlflow_server(tmp_path / "server", port=port) as uri:
        done = training.end()

        assert done.code == 0, done.said
        store, run_id = MlflowStore(uri), run_id_in(done.said)
        assert "does not answer" in done.said
        assert store.read(run_id).status == "FINISHED"
        assert steps_of(store, run_id, "loss") == list(range(10, 301, 10))
        stored = [artifact.path for artifact in store.artifacts(run_id).list("checkpoints")]
        assert "checkpoints/checkpoint-300" in stored


def test_a_server_that_stays_away_is_told_later(slow: Project, tmp_path: Path) -> None:
    port = free_port()
    with mlflow_server(tmp_path / "server", port=port) as uri:
        training = Training(slow, "--grace_s", "1", *LONG, *NO_EVALUATION, MLFLOW_TRACKING_URI=uri)
        training.wait_for("step 100:")
    done = training.end()
    assert done.code == 6, done.said
    assert "the training is done at step 300 and saved in out" in done.said
    assert "when the server answers again: mmrun sync out" in done.said
    away = slow.mmrun("sync", "out", MLFLOW_TRACKING_URI=uri)
    assert away.code == 6, away.said

    with mlflow_server(tmp_path / "server", port=port) as uri:
        sent = slow.mmrun("sync", "out", MLFLOW_TRACKING_URI=uri)

        assert sent.code == 0, sent.said
        assert "its last attempt: finished" in sent.said
        store, run_id = MlflowStore(uri), run_id_in(done.said)
        assert store.read(run_id).status == "FINISHED"
        assert steps_of(store, run_id, "loss") == list(range(10, 301, 10))
        whole = slow.mmrun("checkpoints", "verify", run_id, MLFLOW_TRACKING_URI=uri)
        assert "checkpoint-300 (in the store): whole" in whole.said
