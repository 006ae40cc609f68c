"""A server, or the database behind it, dies and comes back while a training goes on."""

from collections.abc import Iterator

import pytest

from mmrun.checkpoints import manifest as manifests
from tests.mlflow_server import MlflowServer
from tests.postgres import postgres
from tests.recovery.background import Training
from tests.recovery.project import Project
from tests.servers.served import Database, Served

LENGTH = ("--max_steps", "160")
OFTEN = (
    *("--save_steps", "40", "--logging_steps", "10"),
    *("--eval_strategy", "no"),
)


@pytest.fixture(scope="module")
def mortal_database() -> Iterator[Database]:
    """A database to be killed."""
    with postgres() as server:
        yield Database(server, server.new_database())


@pytest.fixture(scope="module")
def shared_server(
    mortal_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """An MLflow server to be killed."""
    server = MlflowServer(tmp_path_factory.mktemp("mortal"), backend=mortal_database.uri)
    yield server
    server.kill()


@pytest.fixture
def mortal(shared_server: MlflowServer) -> MlflowServer:
    """An MLflow server that runs, whatever an earlier test did to it."""
    if not shared_server.runs:
        shared_server.start()
    return shared_server


@pytest.fixture
def slow(project: Project, mortal_database: Database, mortal: MlflowServer) -> Served:
    """A training of some seconds: there is time for a server to go and come."""
    project.change("    d_model: 32\n", "    d_model: 128\n")
    project.change("    encoder_ffn_dim: 64\n", "    encoder_ffn_dim: 1024\n")
    project.change("  metric_for_best_model: eval_loss\n", "")
    return Served(project, mortal_database, {"MLFLOW_TRACKING_URI": mortal.uri})


def assert_nothing_is_missing(slow: Served, *, until: int = 160) -> None:
    assert slow.run.status == "FINISHED"
    assert not slow.logged_twice()
    assert [step for key, step, _ in slow.points if key == "loss"] == list(range(10, until + 1, 10))
    verified = slow.mmrun("checkpoints", "verify", slow.run.run_id)
    assert verified.code == 0, verified.said
    assert f"checkpoint-{until} (in the store): whole" in verified.said


def test_a_server_that_is_killed_costs_no_point_and_no_wait(
    slow: Served, mortal: MlflowServer
) -> None:
    training = Training(slow, *LENGTH, *OFTEN, **slow.environment)
    training.wait_for("step 20:")
    mortal.kill()
    training.wait_for("step 80:")  # it goes on meanwhile
    mortal.start()
    done = training.end()

    assert done.code == 0, done.said
    assert "does not answer" in done.said
    assert_nothing_is_missing(slow)


def test_a_database_that_is_killed_behind_its_server_costs_no_more(
    slow: Served, mortal_database: Database
) -> None:
    training = Training(slow, *LENGTH, *OFTEN, **slow.environment)
    training.wait_for("step 20:")
    mortal_database.server.kill()
    training.wait_for("step 80:")
    mortal_database.server.start()
    done = training.end()

    assert done.code == 0, done.said
    assert "does not answer" in done.said
    assert_nothing_is_missing(slow)


def test_a_training_that_shall_not_outlive_its_server_stops_with_a_whole_checkpoint(
    slow: Served, mortal: MlflowServer
) -> None:
    slow.change(
        "tracking:\n", "tracking:\n  on_server_loss: fail\n  server_loss_s: 1\n  grace_s: 1\n"
    )
    training = Training(slow, "--max_steps", "100000", *OFTEN, **slow.environment)
    training.wait_for("step 20:")
    mortal.kill()
    done = training.end()
    mortal.start()

    assert done.code == 6, done.said
    assert "did not answer for longer than tracking.server_loss_s; stopped at step" in done.said
    assert "try: start the server; the same command goes on" in done.said
    stopped = manifests.read(slow.out / "train/checkpoint-last").step
    assert stopped > 20
    until = stopped // 10 * 10 + 20
    slow.train_to_the_end("--max_steps", str(until), *OFTEN)
    assert_nothing_is_missing(slow, until=until)
