"""Pins, and the marks of those who restore."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrun.checkpoints.holds import Holds
from mmrun.checkpoints.manifest import read
from mmrun.checkpoints.policy import Retention
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.retention import select
from tests.unit.checkpoints.samples import Between, FolderStore, Place

ONE = Retention(last=1, best=0)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.publish(5, 10, 15)
    return place


def going(place: Place) -> list[str]:
    return [one.name for one in select(place.remote, retention=ONE, lineage=()).go]


def leave_mark(place: Place, name: str, **said: object) -> Path:
    mark = place.store.root / f"checkpoints/restoring/{name}.0123456789ab"
    mark.parent.mkdir(exist_ok=True)
    mark.write_text(json.dumps(said))
    return mark


def test_a_pinned_checkpoint_stays_until_it_is_unpinned(place: Place) -> None:
    place.remote.holds.pin("checkpoint-5")
    assert going(place) == ["checkpoint-10"]

    place.remote.holds.unpin("checkpoint-5")
    assert going(place) == ["checkpoint-5", "checkpoint-10"]


def test_a_checkpoint_that_is_being_restored_stays(place: Place) -> None:
    with place.remote.holds.restoring("checkpoint-5"):
        assert going(place) == ["checkpoint-10"]

    assert going(place) == ["checkpoint-5", "checkpoint-10"]


def drop(store: FolderStore, *names: str) -> Sequence[str]:
    return RemoteCheckpoints(store).drop(names)


def test_what_was_pinned_since_it_was_chosen_stays(place: Place) -> None:
    chosen = going(place)
    Holds(place.store).pin("checkpoint-5")

    assert drop(place.store, *chosen) == ["checkpoint-10"]
    assert place.stored() == ["checkpoint-15", "checkpoint-5"]


@pytest.mark.parametrize("at", ["read", "delete"])
def test_a_pin_and_a_removal_at_the_same_moment_agree(place: Place, at: str) -> None:
    manifest = place.store.root / "checkpoints/checkpoint-5/manifest.json"
    before = manifest.read_bytes()
    store = Between(
        place.store.root,
        awaited=lambda what: what == f"{at} checkpoints/checkpoint-5/manifest.json",
        then=lambda: Holds(place.store).pin("checkpoint-5"),
    )

    assert drop(store, "checkpoint-5") == []
    assert manifest.read_bytes() == before
    assert place.remote.problem("checkpoint-5", read(manifest.parent)) is None


def test_what_somebody_begins_to_restore_stays(place: Place, tmp_path: Path) -> None:
    store = Between(
        place.store.root,
        awaited=lambda what: what == "read checkpoints/checkpoint-5/manifest.json",
        then=lambda: drop(place.store, "checkpoint-5"),
    )

    RemoteCheckpoints(store).restore("checkpoint-5", to=tmp_path / "checkpoint-5")

    assert "checkpoint-5" in place.stored()


def test_what_went_before_it_was_pinned_is_not_pinned(place: Place) -> None:
    place.remote.entries()  # its manifest is known
    drop(place.store, "checkpoint-5")

    assert not place.remote.pin("checkpoint-5")
    assert place.remote.pin("checkpoint-10")
    assert place.remote.holds.pinned() == {"checkpoint-10"}


DEAD = {"host": "elsewhere", "pid": 1, "started": None, "boot": None}


def test_the_mark_of_another_machine_counts_for_a_day(place: Place) -> None:
    mark = leave_mark(place, "checkpoint-5", process=DEAD, at_s=4e9)
    assert going(place) == ["checkpoint-10"]

    mark = leave_mark(place, "checkpoint-5", process=DEAD, at_s=1.0)
    assert going(place) == ["checkpoint-5", "checkpoint-10"]
    assert not mark.exists()


def test_the_mark_of_a_dead_process_here_is_removed(place: Place) -> None:
    with place.remote.holds.restoring("checkpoint-5"):
        (mark,) = (place.store.root / "checkpoints/restoring").iterdir()
        said = json.loads(mark.read_text())
    leave_mark(place, "checkpoint-5", process={**said["process"], "pid": 2**22 - 1}, at_s=4e9)

    assert going(place) == ["checkpoint-5", "checkpoint-10"]


def test_a_mark_that_cannot_be_read_counts(place: Place) -> None:
    leave_mark(place, "checkpoint-5", nonsense=1)

    assert going(place) == ["checkpoint-10"]


def test_a_store_that_takes_no_marks_can_be_restored_from(place: Place, tmp_path: Path) -> None:
    place.store.keeps_all = True

    place.remote.restore("checkpoint-5", to=tmp_path / "checkpoint-5")

    assert (tmp_path / "checkpoint-5/manifest.json").exists()
    assert Holds(place.store).being_restored() == {"checkpoint-5"}


def test_the_last_whole_one_stays_whatever_the_numbers_say(place: Place) -> None:
    for step in (10, 15):
        (place.store.root / f"checkpoints/checkpoint-{step}/optimizer.pt").unlink()

    assert going(place) == ["checkpoint-10"]
