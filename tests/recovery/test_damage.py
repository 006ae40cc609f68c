"""Damage to any file of a checkpoint, through the command line: what is resolved, what is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.cli.main import run as mmrun
from tests.recovery.damage import DAMAGES, flip
from tests.recovery.project import Project

FILES = [
    "config.json",
    "generation_config.json",
    "manifest.json",
    "mmrun_state.json",
    "model-frozen.safetensors",
    "model-trained.safetensors",
    "model.safetensors.index.json",
    "optimizer.pt",
    "processor_config.json",
    "rng_state.pth",
    "scheduler.pt",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
]


def longer(*options: str) -> list[str]:
    """Return the command that would go on with the run."""
    return ["train", "--config_path", "experiment.yaml", "--max_steps", "30", *options]


def planned(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert mmrun(longer("--dry-run", "--format", "json")) == 0
    plan: dict[str, object] = json.loads(capsys.readouterr().out)
    return plan


def test_a_whole_one_here_is_taken(frozen: Project, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys)

    assert (plan["checkpoint"], plan["where"], plan["rejected"]) == ("checkpoint-23", "local", [])


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", FILES)
def test_damage_here_is_seen_and_the_copy_in_the_store_taken(
    frozen: Project,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(frozen.out / "train/checkpoint-23" / name)

    plan = planned(capsys)

    assert (plan["checkpoint"], plan["where"]) == ("checkpoint-23", "remote")
    rejected = plan["rejected"]
    assert isinstance(rejected, list)
    assert len(rejected) == 1
    assert rejected[0].startswith("checkpoint-23 (here): ")
    assert name in rejected[0]


def test_an_extra_file_here_is_seen(frozen: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (frozen.out / "train/checkpoint-23/adapter_model.bin").write_bytes(b"foreign")

    plan = planned(capsys)

    assert plan["where"] == "remote"
    assert "adapter_model.bin does not belong to it" in str(plan["rejected"])


def stored(project: Project, name: str) -> Path:
    if name == "model-frozen.safetensors":
        (path,) = project.artifact("checkpoints/shared").glob(f"*/{name}")
        return path
    return project.artifact(f"checkpoints/checkpoint-23/{name}")


OWN = [name for name in FILES if name != "model-frozen.safetensors"]


@pytest.mark.parametrize("damage", [flip, Path.unlink], ids=["flip", "unlink"])
@pytest.mark.parametrize("name", OWN)
def test_damage_in_the_store_is_seen_and_the_one_before_pulled(
    frozen: Project,
    capsys: pytest.CaptureFixture[str],
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(stored(frozen, name))
    run_id = frozen.run.run_id

    assert mmrun(["checkpoints", "pull", run_id, "pulled"]) == 0

    said = capsys.readouterr()
    assert "checkpoint-18 is in pulled, whole" in said.out
    assert "checkpoint-23 (in the store): " in said.out + said.err
    manifest = manifests.read(Path("pulled"))
    assert manifest.step == 18
    assert manifests.problem_with(Path("pulled"), manifest) is None


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_to_what_all_share_leaves_none_in_the_store(
    frozen: Project, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    damage(stored(frozen, "model-frozen.safetensors"))
    run_id = frozen.run.run_id

    assert mmrun(["checkpoints", "pull", run_id, "pulled"]) == 5

    said = capsys.readouterr().err
    assert "none of them is whole" in said
    assert said.count("model-frozen.safetensors") >= 3
    assert not Path("pulled").exists()
    assert mmrun(["checkpoints", "pull", run_id, "pulled", "--output_dir", "out"]) == 0


@pytest.mark.parametrize("name", ["optimizer.pt", "manifest.json", "model-frozen.safetensors"])
def test_a_named_one_of_which_no_copy_is_whole_ends_with_5(
    frozen: Project, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.rmtree(frozen.out / "train/checkpoint-23")
    flip(stored(frozen, name))

    assert mmrun(["checkpoints", "pull", f"{frozen.run.run_id}@23", "pulled"]) == 5

    assert name in capsys.readouterr().err
    assert not Path("pulled").exists()


def test_verify_names_everything_that_is_off(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mmrun(["checkpoints", "verify", "out"]) == 0
    assert capsys.readouterr().out.count(": whole") == 7

    flip(frozen.out / "train/checkpoint-6/rng_state.pth")
    flip(frozen.artifact("checkpoints/checkpoint-18/optimizer.pt"))

    assert mmrun(["checkpoints", "verify", "out"]) == 5
    said = capsys.readouterr().err
    assert "error: checkpoint-6 (here): rng_state.pth is damaged" in said
    assert "error: checkpoint-18 (in the store): optimizer.pt is damaged" in said
    assert said.count("error:") == 2


def rewrite(folder: Path, **changed: object) -> None:
    """Change a manifest, and seal it again as its writer would."""
    tree = json.loads((folder / "manifest.json").read_text()) | changed
    tree.pop("digest")
    (folder / "manifest.json").write_text(json.dumps({**tree, "digest": manifests.seal(tree)}))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        pytest.param("/etc/passwd", "not a plain relative path", id="absolute"),
        pytest.param("../../../secrets", "not a plain relative path", id="parent"),
        pytest.param("a\\b", "does not keep", id="backslash"),
    ],
)
def test_a_manifest_with_an_unsafe_path_is_refused(
    frozen: Project, capsys: pytest.CaptureFixture[str], path: str, reason: str
) -> None:
    folder = frozen.artifact("checkpoints/checkpoint-23")
    tree = json.loads((folder / "manifest.json").read_text())
    tree["files"][0]["path"] = path
    rewrite(folder, files=tree["files"])

    assert mmrun(["checkpoints", "pull", f"{frozen.run.run_id}@23", "pulled"]) == 5

    assert reason.replace("does not", "do not") in capsys.readouterr().err


def test_a_link_in_a_checkpoint_is_refused(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    state = frozen.out / "train/checkpoint-23/trainer_state.json"
    state.rename(frozen.folder / "elsewhere.json")
    state.symlink_to(frozen.folder / "elsewhere.json")

    plan = planned(capsys)

    assert plan["where"] == "remote"
    assert "trainer_state.json is a link" in str(plan["rejected"])


def test_newer_work_of_a_newer_mmrun_is_not_passed_over(
    frozen: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(frozen.out / "train/checkpoint-23")
    rewrite(frozen.artifact("checkpoints/checkpoint-23"), format=3)
    frozen.artifact("checkpoints/index.json").unlink()

    assert mmrun(longer("--dry-run")) == 5

    said = capsys.readouterr().err
    assert "manifest.json has format 3, this mmrun reads 1 and 2" in said
    assert "use the mmrun that wrote it" in said
    assert mmrun(longer("--dry-run", "--resume_from_checkpoint", "18")) == 0
