"""Two processes that both take themselves for the holder of a run write into no folder together.

That is so for a moment after ``--steal``, or after a network that was cut is whole again.
"""

import shutil
from pathlib import Path

import pytest

from mmrun.checkpoints.manifest import SHARED_FROM, Manifest
from mmrun.checkpoints.publisher import Publisher
from mmrun.checkpoints.remote import RemoteCheckpoints
from tests.unit.checkpoints.samples import Between, FolderStore, Place, description, write_files

FOLDER = "checkpoints/checkpoint-10"


def has_files_of_ten(store: FolderStore) -> bool:
    folder = store.root / FOLDER
    return len(list(folder.glob("[!m]*"))) == 4 and (folder / "model.safetensors").exists()


@pytest.fixture
def store(tmp_path: Path) -> Between:
    return Between(tmp_path / "store")


def holder(tmp_path: Path, store: Between, *, attempt: int) -> tuple[Place, Publisher]:
    lineage = [(number, 0) for number in range(1, attempt + 1)]
    place = Place(tmp_path / f"machine-{attempt}", store=store, lineage=lineage)
    return place, place.publisher()


def save(place: Place, publisher: Publisher, step: int, *, attempt: int) -> None:
    partial = write_files(place.local.partial(step), step=step)
    (partial / "frozen.safetensors").write_bytes(b"f" * SHARED_FROM)
    (partial / "attempt.txt").write_text(str(attempt))
    publisher.publish(partial, description(step, attempt=attempt), constant=["frozen.safetensors"])
    publisher.settle()


def assert_whole(store: Between, tmp_path: Path, expected: dict[str, str]) -> None:
    """Download what stands, and compare which attempt each is of."""
    remote = RemoteCheckpoints(store)
    found = {}
    for saved in remote.look()[0]:
        remote.restore(saved.name, to=tmp_path / "restored" / saved.name)
        found[saved.name] = (tmp_path / "restored" / saved.name / "attempt.txt").read_text()
    assert found == expected


def test_the_new_holder_leaves_the_folder_of_the_old_one_alone(
    store: Between, tmp_path: Path
) -> None:
    old, old_publisher = holder(tmp_path, store, attempt=1)
    new, new_publisher = holder(tmp_path, store, attempt=2)
    new_publisher.drain(30)

    def take_over() -> None:
        save(new, new_publisher, 10, attempt=2)
        new_publisher.drain(30)

    store.awaited = lambda what: what == f"upload {FOLDER}/manifest.json"
    store.then = take_over
    save(old, old_publisher, 10, attempt=1)
    old_publisher.drain(30)

    assert_whole(store, tmp_path, {"checkpoint-10.a2": "2", "checkpoint-10": "1"})


def test_what_the_new_holder_collects_is_sent_again_by_the_old_one_alone(
    store: Between, tmp_path: Path
) -> None:
    old, old_publisher = holder(tmp_path, store, attempt=1)
    new, new_publisher = holder(tmp_path, store, attempt=2)

    def take_over() -> None:
        for step in (5, 10):
            save(new, new_publisher, step, attempt=2)
            new_publisher.drain(30)

    store.awaited = lambda what: what == f"list {FOLDER}" and has_files_of_ten(store)
    store.then = take_over
    save(old, old_publisher, 10, attempt=1)
    old_publisher.drain(30)

    assert_whole(
        store, tmp_path, {"checkpoint-10.a2": "2", "checkpoint-10": "1", "checkpoint-5": "2"}
    )


def test_shared_files_that_went_meanwhile_are_sent_again(store: Between, tmp_path: Path) -> None:
    old, old_publisher = holder(tmp_path, store, attempt=1)
    save(old, old_publisher, 5, attempt=1)
    old_publisher.drain(30)
    store.awaited = lambda what: what == f"upload {FOLDER}/optimizer.pt"
    store.then = lambda: shutil.rmtree(store.root / "checkpoints/shared")

    save(old, old_publisher, 10, attempt=1)
    old_publisher.drain(30)

    remote = RemoteCheckpoints(store)
    remote.restore("checkpoint-10", to=tmp_path / "restored")


def test_a_manifest_never_replaces_another(store: Between, tmp_path: Path) -> None:
    old, old_publisher = holder(tmp_path, store, attempt=1)
    theirs = Manifest.of(description(10, attempt=2), created_ms=1, files=()).to_json()
    store.awaited = lambda what: what == f"list {FOLDER}" and has_files_of_ten(store)
    store.then = lambda: (store.root / FOLDER / "manifest.json").write_text(theirs)

    save(old, old_publisher, 10, attempt=1)
    old_publisher.drain(30)

    assert (store.root / FOLDER / "manifest.json").read_text() == theirs
    RemoteCheckpoints(store).restore("checkpoint-10.a1", to=tmp_path / "restored")
