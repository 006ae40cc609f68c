"""What is recorded of the code, with and without git."""

import os
import subprocess
from pathlib import Path

import pytest

from mmrun.provenance.source import environment, source_state, versions


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "params.yaml").write_text("learning_rate: 1e-4\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_a_clean_repository_is_its_revision(repository: Path) -> None:
    (repository / "untracked").touch()

    state = source_state(repository)

    assert len(state.git_revision or "") == 40
    assert (state.dirty, state.diff) == (False, "")


def test_uncommitted_changes_are_kept_as_a_diff(repository: Path) -> None:
    (repository / "params.yaml").write_text("learning_rate: 5e-5\n")

    state = source_state(repository)

    assert state.dirty
    assert "-learning_rate: 1e-4\n+learning_rate: 5e-5\n" in state.diff


def test_a_diff_shows_no_secret(repository: Path) -> None:
    (repository / "params.yaml").write_text(
        'hub_token: hf_abc\nuri: http://ann:pw123@host/x\n"api_key": "sk-1"\n'
        "tokenizer_path: models/x\n"
    )

    diff = source_state(repository).diff

    assert not [secret for secret in ("hf_abc", "pw123", "sk-1") if secret in diff]
    assert "+hub_token: ***\n" in diff
    assert "http://ann:***@host/x" in diff
    assert "+tokenizer_path: models/x\n" in diff


def test_a_huge_diff_is_cut(repository: Path) -> None:
    (repository / "params.yaml").write_text("x\n" * 2_000_000)

    diff = source_state(repository).diff

    assert len(diff) < 1_000_200
    assert diff.endswith("larger than a megabyte]\n")


def test_a_folder_without_repository_has_no_revision(tmp_path: Path) -> None:
    state = source_state(tmp_path)

    assert (state.git_revision, state.dirty, state.diff) == (None, False, "")


def test_a_repository_without_a_commit_has_no_revision(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    assert source_state(tmp_path).git_revision is None


def test_a_machine_without_git_has_no_revision(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    assert source_state(repository).git_revision is None


def test_versions_and_environment_name_the_libraries() -> None:
    assert {"python", "mmrun", "torch", "transformers", "mlflow"} <= versions().keys() | {"mmrun"}
    assert [line for line in environment() if line.startswith("mlflow==")]
