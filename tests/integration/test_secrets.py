"""A secret goes nowhere: not into a file of a run, not into the store, not onto the terminal."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.leaks import contents, with_secret
from tests.mlflow_server import free_port, mlflow_server
from tests.recovery.project import Done, Project, write_small_data

TOKEN = "hf_tokenOnTheCommandLine"
OTHER = "hf_tokenOfTheNextAttempt"
PASSWORD = "pass%2Fword-in-the-file"
QUERY = "in-the-query-of-an-address"
SECRETS = (TOKEN, OTHER, PASSWORD, "pass/word-in-the-file", QUERY)
OWN = frozenset({"experiment.yaml", "broken.yaml"})
"""What the user wrote, secrets in it; mmrun leaves it alone."""

PLUGIN = f"""
import os

from mmrun.modalities.features import FeaturesModality

class Leaking(FeaturesModality):
    def load(self, signal):
        if "LEAK" in os.environ:
            raise RuntimeError("nobody is called {TOKEN}")
        return super().load(signal)
"""
"""A modality that tells what it was given, as libraries do."""


class Scene:
    """A project whose file names a server with a password, and what each command in it said."""

    def __init__(self, project: Project, address: str) -> None:
        self.project = project
        self.said: dict[str, Done] = {}
        project.change("tracking:\n", f"tracking:\n  uri: {address}\n")
        project.change("  seed: 7\n", f"  seed: 7\n  project: https://h/p?token={QUERY}\n")

    def run(self, name: str, *words: str, **environment: str) -> Done:
        done = self.project.mmrun(*words, **environment)
        self.said[name] = done
        return done

    def train(self, name: str, *words: str, **environment: str) -> Done:
        short = ("--max_steps", "12", "--config_path", "experiment.yaml")
        return self.run(name, "train", *short, *words, **environment)


def git(project: Project, *words: str) -> None:
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, *words], cwd=project.folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Train, be killed, look, resume with another token, pull, fail, mistype."""
    base = tmp_path_factory.mktemp("secrets")
    write_small_data(base / "small" / "data")
    project = Project(base / "project")
    project.write(base / "small" / "data")
    git(project, "init", "--quiet")
    git(project, "add", "experiment.yaml")
    git(project, "commit", "--quiet", "-m", "first")
    port = free_port()
    with mlflow_server(project.folder / "server", port=port):
        scene = Scene(project, f"http://ann:{PASSWORD}@127.0.0.1:{port}")
        work(scene)
        yield scene


def work(scene: Scene) -> None:
    killed = {"MMRUN_KILL_AT": "upload.manifest@6,step@8"}
    scene.train("killed", "--hub_token", TOKEN, **killed)
    scene.train("planned", "--hub_token", OTHER, "--dry-run")
    scene.train("planned for programs", "--hub_token", OTHER, "--dry-run", "--format", "json")
    scene.train("resumed", "--hub_token", OTHER, "--learning_rate", "0.002", "--verbose")
    scene.run("verified", "checkpoints", "verify", "out")
    scene.run("pulled", "checkpoints", "pull", "best", "pulled", "--output_dir", "out")
    plugin = str(install_plugin(scene.project.folder.parent / "plugin"))
    kind = ("--modality", "leaking2text", "--pipeline", "leaking2text", "--output_dir", "failing")
    file = ("--config_path", "experiment.yaml")
    scene.run("set up", "setup", *file, *kind, "--hub_token", TOKEN, PYTHONPATH=plugin)
    failing = ("--hub_token", TOKEN, "--verbose", *kind)
    scene.train("failed", *failing, PYTHONPATH=plugin, LEAK="1")


def install_plugin(folder: Path) -> Path:
    (folder / "leaking-1.dist-info").mkdir(parents=True)
    points = "[mmrun.modalities]\nleaking = leaking:Leaking\n"
    (folder / "leaking-1.dist-info/entry_points.txt").write_text(points)
    (folder / "leaking-1.dist-info/METADATA").write_text("Name: leaking\nVersion: 1\n")
    (folder / "leaking.py").write_text(PLUGIN)
    return folder


def files(scene: Scene) -> Mapping[str, bytes]:
    return contents(scene.project.folder, but=OWN)


def test_the_scene_is_what_it_should_be(scene: Scene) -> None:
    codes = {name: done.code for name, done in scene.said.items()}

    assert codes == {
        "killed": -9,
        "planned": 0,
        "planned for programs": 0,
        "resumed": 0,
        "verified": 0,
        "pulled": 0,
        "set up": 0,
        "failed": 1,
    }, scene.said
    stored = files(scene)
    for part in (
        "out/run.json",
        "out/journal/",
        "out/train/checkpoint-12/manifest.json",
        "pulled/optimizer.pt",
        "server/server.db",
        "artifacts/attempts/2.json",
        "artifacts/checkpoints/checkpoint-6/optimizer.pt",
        "artifacts/provenance/uncommitted.a1.diff",
        "artifacts/error.txt",
    ):
        assert any(part in name for name in stored), part


@pytest.mark.parametrize("secret", SECRETS)
def test_no_file_has_a_secret_in_it(scene: Scene, secret: str) -> None:
    assert with_secret(files(scene), [secret]) == []


@pytest.mark.parametrize("secret", SECRETS)
def test_no_command_says_a_secret(scene: Scene, secret: str) -> None:
    said = {name: done.said.encode() for name, done in scene.said.items()}

    assert with_secret(said, [secret]) == []


def test_the_records_show_that_there_was_one(scene: Scene) -> None:
    records = [c for name, c in files(scene).items() if name.endswith("attempts/2.json")]
    diffs = [c for name, c in files(scene).items() if name.endswith("uncommitted.a1.diff")]

    (record,) = map(json.loads, records)
    assert record["config"]["training"]["hub_token"] == "***"
    assert record["config"]["tracking"]["uri"].startswith("http://ann:***@127.0.0.1:")
    assert list(record["overrides"]) == ["training.learning_rate"]
    assert b"+  uri: http://ann:***@127.0.0.1:" in diffs[0]


def test_an_error_of_a_library_is_recorded_without_the_secret_in_it(scene: Scene) -> None:
    (error,) = [c for name, c in files(scene).items() if name.endswith("artifacts/error.txt")]

    assert b"RuntimeError: nobody is called ***" in error
    assert "error: RuntimeError: nobody is called ***" in scene.said["failed"].said


def test_another_secret_is_no_change_to_tell_of(scene: Scene) -> None:
    plan = json.loads(scene.said["planned for programs"].said)

    assert plan["changed"] == {}
    assert plan["checkpoint"] == "checkpoint-6"


DEAD = f"--tracking_uri=postgresql://ann:{PASSWORD}@127.0.0.1:9/runs"
DOWN = f"--tracking_uri=http://127.0.0.1:9/?token={TOKEN}"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        pytest.param(["train", "--hub_tokn", TOKEN], 2, id="a misspelt name"),
        pytest.param(["train", "--hub_token", TOKEN, "--hub_token", OTHER], 2, id="twice"),
        pytest.param(["train", "--hub_token=", TOKEN], 2, id="a blank too many"),
        pytest.param(["train", "--set", f"hub_token={TOKEN}"], 2, id="no section"),
        pytest.param(["train", "--set", "training.hub_token", TOKEN], 2, id="no equals sign"),
        pytest.param(["train", "--set", f"training.hub_tokn={TOKEN}"], 2, id="unknown key"),
        pytest.param(["train", "--set", f"training.hub_token.x={TOKEN}"], 2, id="too deep"),
        pytest.param(["train", "--push_to_hub_token", TOKEN], 2, id="a name of old"),
        pytest.param(["train", "--config_path", "broken.yaml"], 3, id="a key twice in the file"),
        pytest.param(["checkpoints", "list", "a" * 32, DEAD], 6, id="a database that is down"),
        pytest.param(["checkpoints", "list", "a" * 32, DOWN], 6, id="a server that is down"),
        pytest.param(["sync", "failing", DEAD], 6, id="nothing to send to"),
    ],
)
def test_an_error_does_not_quote_a_secret(scene: Scene, words: list[str], code: int) -> None:
    twice = f"training:\n  hub_token: {TOKEN}\n  hub_token: {OTHER}\n"
    (scene.project.folder / "broken.yaml").write_text(twice, encoding="utf-8")

    done = scene.run("error", "--verbose", *words)

    assert done.code == code, done.said
    assert "error: " in done.said
    assert not [secret for secret in SECRETS if secret in done.said]
