"""Servers that are started once for all tests of a process that ask for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mlflow_server import MlflowServer
from tests.postgres import Postgres, postgres
from tests.recovery.conftest import alone, alone_at, project, small_data
from tests.recovery.project import Project
from tests.s3 import S3, s3_server
from tests.servers.served import Database, Served

__all__ = ["alone", "alone_at", "project", "small_data"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder: it needs programs that are not everywhere."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("server")


@pytest.fixture(scope="session")
def database_server() -> Iterator[Postgres]:
    """A PostgreSQL; it stays as it is."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3-compatible server."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of all tests keeps its files."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(database_server: Postgres, server_folder: Path) -> Iterator[tuple[str, Database]]:
    """An MLflow server on PostgreSQL that passes artifacts on; it stays as it is."""
    database = Database(database_server, database_server.new_database())
    server = MlflowServer(server_folder, backend=database.uri)
    server.start()
    yield server.uri, database
    server.kill()


@pytest.fixture
def served(project: Project, server: tuple[str, Database], server_folder: Path) -> Served:
    """A project whose runs are in the server, in an experiment of the test's own."""
    uri, database = server
    return Served(project, database, {"MLFLOW_TRACKING_URI": uri}, files=server_folder / "served")


@pytest.fixture
def database(database_server: Postgres) -> Database:
    """An empty database of the test's own."""
    return Database(database_server, database_server.new_database())
