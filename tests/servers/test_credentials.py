"""Logins open a server and a database, and are written down nowhere."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from tests.integration.leaks import contents, with_secret
from tests.mlflow_server import MlflowServer
from tests.postgres import Postgres
from tests.recovery.project import Done, Project, write_small_data
from tests.servers.served import Database, Served

ADMIN, ANN, READER = "word-of-the-admin", "pass/word+of-ann", "word-of-the-reader"
WRITTEN = "pass%2Fword%2Bof-ann"
"""Ann's password in an address."""
HUB_TOKEN = "hf_tokenOfTheHubOfTests"

SETTINGS = """\
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = admin
admin_password = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def login(user: str, password: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}


class Locked:
    """A server that asks for a login, a project, and what each command in it said."""

    def __init__(self, served: Served, uri: str) -> None:
        self.served = served
        self.uri = uri
        self.said: dict[str, Done] = {}

    def train(self, name: str, *options: str, **environment: str) -> Done:
        short = ("--max_steps", "8", "--hub_token", HUB_TOKEN)
        done = self.served.train(*short, *options, **environment)
        self.said[name] = done
        return done


@pytest.fixture(scope="module")
def locked(database_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    base = tmp_path_factory.mktemp("locked")
    folder = base / "server"
    folder.mkdir()
    settings = folder / "auth.ini"
    settings.write_text(SETTINGS.format(folder=folder, admin=ADMIN))
    database = Database(database_server, database_server.new_database())
    server = MlflowServer(
        folder,
        backend=database.uri,
        options=("--app-name", "basic-auth", "--artifacts-destination", str(folder / "served")),
        environment={
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "key-of-the-server",
        },
    )
    server.start()
    for user, password in (("ann", ANN), ("reader", READER)):
        answer = requests.post(
            f"{server.uri}/api/2.0/mlflow/users/create",
            json={"username": user, "password": password},
            auth=("admin", ADMIN),
            timeout=60,
        )
        answer.raise_for_status()
    write_small_data(base / "digits" / "data")
    project = Project(base / "project")
    project.write(base / "digits" / "data")
    locked = Locked(
        Served(project, database, {"MLFLOW_TRACKING_URI": server.uri}, files=folder / "served"),
        server.uri,
    )
    locked.train("killed", **login("ann", ANN), MMRUN_KILL_AT="upload.manifest@6,step@7")
    address = server.uri.replace("//", f"//ann:{WRITTEN}@")
    locked.train("resumed", "--verbose", MLFLOW_TRACKING_URI=address)
    yield locked
    server.kill()


def test_a_login_comes_from_the_environment_or_from_the_address(locked: Locked) -> None:
    assert locked.said["killed"].code == -9, locked.said["killed"].said
    assert locked.said["resumed"].code == 0, locked.said["resumed"].said
    assert locked.served.run.status == "FINISHED"
    assert locked.served.run.tags["mmrun.attempts"] == "2"


REFUSED: Mapping[str, tuple[dict[str, str], str, str]] = {
    "nobody": ({}, "asks for a login", "set MLFLOW_TRACKING_USERNAME and"),
    "a wrong password": (
        login("ann", "pass/word+of-bob"),
        "does not know ann with this password",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    "a reader": (
        login("reader", READER),
        "does not allow reader to do that: ",
        "ask its administrator for the permission EDIT on the experiment",
    ),
}


@pytest.mark.parametrize("who", REFUSED)
def test_who_may_not_write_is_told_so_in_two_lines(locked: Locked, who: str) -> None:
    environment, problem, hint = REFUSED[who]
    before = locked.served.runs()

    done = locked.train(
        who,
        "--output_dir",
        "refused",
        "--resume_from_checkpoint",
        f"{before[0].run_id}@latest",
        **environment,
    )

    error, remedy = done.said.splitlines()
    assert done.code == 6
    assert error.startswith(f"error: {locked.uri} {problem}")
    assert remedy.startswith(f"  try: {hint}")
    assert locked.served.runs() == before


def test_no_password_and_no_token_is_kept_or_said(locked: Locked) -> None:
    secrets = (ANN, WRITTEN, READER, HUB_TOKEN)
    database = locked.served.dump()
    said = {name: done.said.encode() for name, done in locked.said.items()}
    folder = contents(locked.served.folder)
    artifacts = contents(locked.served.artifact(""))

    assert {"out/run.json", "out/train/checkpoint-8/manifest.json"} <= folder.keys()
    assert {"attempts/2.json", "checkpoints/checkpoint-8/manifest.json"} <= artifacts.keys()
    assert b"mmrun.attempts" in database
    assert with_secret({"dump": database}, secrets) == []
    assert with_secret(said, secrets) == []
    assert with_secret(folder, secrets) == []
    assert with_secret(artifacts, secrets) == []


def test_the_password_of_a_database_is_kept_nowhere(
    project: Project, database: Database, tmp_path: Path
) -> None:
    direct = Served(project, database, {"MLFLOW_TRACKING_URI": database.uri})
    killed = direct.train("--verbose", MMRUN_KILL_AT="upload.manifest@6,step@7")
    resumed = direct.train("--max_steps", "8", "--verbose")

    assert (killed.code, resumed.code) == (-9, 0), resumed.said
    secrets = (database.server.password,)
    assert with_secret(contents(project.folder), secrets) == []
    assert with_secret({"dump": direct.dump()}, secrets) == []
    assert with_secret({"said": f"{killed.said}{resumed.said}".encode()}, secrets) == []
