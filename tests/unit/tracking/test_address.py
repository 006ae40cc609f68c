"""Which tracking URI counts, and what is in it."""

from pathlib import Path

import pytest

from mmrun.tracking.address import split_login, sqlite_file, tracking_uri


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_default_is_a_database_in_the_project(tmp_path: Path) -> None:
    assert tracking_uri(None, project=tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_environment_wins_over_the_experiment_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")

    assert tracking_uri("sqlite:///other.db", project=tmp_path) == "http://server:5000"


def test_a_relative_database_of_the_environment_is_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db?timeout=5")

    uri = tracking_uri(None, project=tmp_path / "elsewhere")

    assert uri == f"sqlite:///{tmp_path}/runs.db?timeout=5"


@pytest.mark.parametrize(
    "uri", ["http://server:5000/mlflow", "sqlite:////abs/m.db", "postgresql://h/db", "databricks"]
)
def test_other_uris_stay_as_they_are(uri: str, tmp_path: Path) -> None:
    assert tracking_uri(uri, project=tmp_path) == uri


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////a/b.db", Path("/a/b.db")),
        ("sqlite+pysqlite:///b.db", Path("b.db")),
        ("sqlite:///:memory:", None),
        ("http://host", None),
    ],
)
def test_the_file_of_a_database_uri(uri: str, file: Path | None) -> None:
    assert sqlite_file(uri) == file


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("https://ann:p%40w@host/x", ("https://host/x", "ann", "p@w")),
        ("http://host", ("http://host", None, None)),
        ("postgresql://u:p@h/db", ("postgresql://u:p@h/db", None, None)),
    ],
)
def test_the_login_of_a_server_is_taken_out_of_its_uri(
    uri: str, parts: tuple[str, str | None, str | None]
) -> None:
    assert split_login(uri) == parts
