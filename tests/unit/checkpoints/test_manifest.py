import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmrun.checkpoints import manifest as manifests
from mmrun.checkpoints.manifest import Manifest
from mmrun.errors import CheckpointError
from tests.unit.checkpoints.samples import description, write_files


def resealed(tree: dict[str, Any]) -> str:
    """Return a manifest that somebody wrote so on purpose."""
    tree.pop("digest")
    return json.dumps({**tree, "digest": manifests.seal(tree)})


def made(folder: Path) -> Manifest:
    write_files(folder, step=5)
    return Manifest.of(description(5), created_ms=1, files=manifests.describe(folder))


def test_a_manifest_round_trips_also_where_a_metric_is_not_a_number(tmp_path: Path) -> None:
    wanted = made(tmp_path).model_copy(update={"metrics": {"eval_loss": math.nan, "bleu": 0.5}})

    read = Manifest.from_json(wanted.to_json())

    assert read.to_json() == wanted.to_json()
    assert math.isnan(read.metrics["eval_loss"])
    assert "NaN" not in json.loads(wanted.to_json(), parse_constant=lambda _: pytest.fail("NaN"))


def test_a_written_manifest_is_read_back_and_the_folder_is_whole(tmp_path: Path) -> None:
    manifest = made(tmp_path)

    manifests.write(tmp_path, manifest)

    assert manifests.read(tmp_path) == manifest
    assert manifests.problem_with(tmp_path, manifest) is None


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("flipped bit", lambda f: flip(f / "model.safetensors"), "model.safetensors is damaged"),
    ("flipped bit in the state", lambda f: flip(f / "trainer_state.json"), "trainer_state.json is"),
    ("zero length", lambda f: (f / "optimizer.pt").write_bytes(b""), "optimizer.pt is empty inst"),
    ("truncated", lambda f: (f / "optimizer.pt").write_bytes(b"x"), "truncated: 1 of "),
    ("longer", lambda f: (f / "optimizer.pt").write_bytes(b"x" * 9999), "has 9999 bytes instead"),
    ("missing", lambda f: (f / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    ("extra", lambda f: (f / "nested/b.bin").touch(), "nested/b.bin does not belong to it"),
    ("link", lambda f: (f / "l").symlink_to("/etc/hostname"), "l is a link"),
]


@pytest.mark.parametrize(("damage", "reason"), [pytest.param(d, r, id=i) for i, d, r in DAMAGES])
def test_damage_is_found_and_said_in_words(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    manifest = made(tmp_path)

    damage(tmp_path)

    assert reason in (manifests.problem_with(tmp_path, manifest) or "")


def test_only_a_few_problems_are_named(tmp_path: Path) -> None:
    manifest = made(tmp_path)
    for path in tmp_path.glob("*.*"):
        path.unlink()
    for name in "abc":
        (tmp_path / name).touch()

    assert (manifests.problem_with(tmp_path, manifest) or "").endswith("; and 4 more")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a//b",
        "./a",
        "",
        "a\\b",
        "C:/x",
        "a#b",
        "manifest.json",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    tree = json.loads(made(tmp_path).to_json())
    tree["files"][0]["path"] = path

    with pytest.raises(CheckpointError, match=r"files\.0\.path"):
        Manifest.from_json(resealed(tree))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"format": 3}, "has format 3, this mmrun reads 1 and 2", id="newer format"),
        pytest.param({"format": None}, "has format None", id="no format"),
        pytest.param({"sttep": 5}, "sttep", id="unknown key"),
        pytest.param({"step": -1}, "step", id="negative step"),
        pytest.param({"files": None}, "files", id="no files"),
    ],
)
def test_a_foreign_manifest_is_refused(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    tree = json.loads(made(tmp_path).to_json()) | change

    with pytest.raises(CheckpointError, match=reason):
        Manifest.from_json(resealed(tree))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_torn_manifest_is_damaged(text: str) -> None:
    with pytest.raises(CheckpointError, match="is damaged"):
        Manifest.from_json(text)


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    tree = json.loads(made(tmp_path).to_json())
    tree["files"].append(tree["files"][0])

    with pytest.raises(CheckpointError, match="names a file twice"):
        Manifest.from_json(resealed(tree))


def test_one_changed_character_anywhere_is_noticed(tmp_path: Path) -> None:
    text = made(tmp_path).to_json()

    changed = text.replace('"data_version": "sha256:d', '"data_version": "sha256:e')

    with pytest.raises(CheckpointError, match="is damaged"):
        Manifest.from_json(changed)


def test_a_link_is_not_described(tmp_path: Path) -> None:
    write_files(tmp_path, step=1)
    (tmp_path / "outside").symlink_to("/etc/hostname")

    with pytest.raises(CheckpointError, match="outside is a link"):
        manifests.describe(tmp_path)
