"""Checkpoints that broke after they were saved, here and in the store."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrun.checkpoints.archive import Archive
from mmrun.checkpoints.reference import Reference
from mmrun.errors import CheckpointError
from tests.recovery.damage import DAMAGES, flip
from tests.unit.checkpoints.samples import RUN, Place

LATEST = Reference(text="latest", which="latest")
FILES = ["model.safetensors", "optimizer.pt", "trainer_state.json", "manifest.json"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.publish(5, 10)
    return place


def next_process(place: Place) -> Archive:
    return Archive(place.local, Place(place.root).remote, run_id=RUN)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_on_disk_is_repaired_from_the_store(
    place: Place, name: str, damage: Callable[[Path], None]
) -> None:
    damage(place.local.path("checkpoint-10") / name)

    found, folder = next_process(place).obtain(LATEST)

    assert found.step == 10
    assert place.local.problem(folder.name) is None
    assert place.local.path("rejected/checkpoint-10").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_the_store_falls_back_to_the_newest_whole_one(
    place: Place, name: str, damage: Callable[[Path], None]
) -> None:
    shutil.rmtree(place.local.folder)
    damage(place.store.root / "checkpoints/checkpoint-10" / name)

    found, folder = next_process(place).obtain(LATEST)

    assert found.step == 5
    assert place.local.problem(folder.name) is None
    assert [one.step for one in found.rejected] == [10]


@pytest.mark.parametrize("name", FILES)
def test_damage_everywhere_is_never_taken_for_a_new_start(place: Place, name: str) -> None:
    for step in (5, 10):
        flip(place.local.path(f"checkpoint-{step}") / name)
        flip(place.store.root / f"checkpoints/checkpoint-{step}" / name)

    with pytest.raises(CheckpointError, match="none of them is whole") as caught:
        next_process(place).obtain(LATEST)

    assert caught.value.exit_code == 5
    assert len(caught.value.more) == 4


def test_an_extra_file_is_not_loaded(place: Place) -> None:
    (place.local.path("checkpoint-10") / "adapter_model.bin").write_bytes(b"foreign")

    found, _ = next_process(place).obtain(LATEST)

    assert found.where == "remote"
    assert "adapter_model.bin does not belong to it" in found.rejected[0].reason


def test_a_restore_that_was_cut_is_begun_again(place: Place) -> None:
    shutil.rmtree(place.local.folder)
    scratch = place.local.folder / ".checkpoint-10.partial"
    scratch.mkdir(parents=True)
    (scratch / "half").touch()

    _, folder = next_process(place).obtain(LATEST)

    assert place.local.problem(folder.name) is None
    assert not scratch.exists()
