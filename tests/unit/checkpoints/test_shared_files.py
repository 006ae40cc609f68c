"""What does not change is stored once, and goes when the last that needs it has gone."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrun.checkpoints.manifest import SHARED_FROM, Manifest, read
from mmrun.checkpoints.policy import Retention
from mmrun.checkpoints.publisher import Publisher
from mmrun.checkpoints.remote import RemoteCheckpoints
from mmrun.checkpoints.retention import bytes_of
from tests.unit.checkpoints.samples import FolderStore, Place, description, write_files

FROZEN = b"frozen weights " * SHARED_FROM
"""Well above the size from which files are shared."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def publish(
    place: Place,
    *steps: int,
    publisher: Publisher | None = None,
    frozen: bytes = FROZEN,
    constant: Sequence[str] = ("frozen.safetensors",),
) -> Publisher:
    publisher = publisher or place.publisher()
    for step in steps:
        partial = write_files(place.local.partial(step), step=step)
        (partial / "frozen.safetensors").write_bytes(frozen)
        publisher.publish(partial, description(step), constant=constant)
        publisher.drain(0)
    return publisher


def shared(place: Place) -> list[Path]:
    return list(place.store.root.glob("checkpoints/shared/*/*"))


def manifest_of(place: Place, step: int) -> Manifest:
    return read(place.store.root / f"checkpoints/checkpoint-{step}")


def test_a_constant_file_is_sent_once(place: Place) -> None:
    publish(place, 5, 10, 15)

    assert [path.read_bytes() for path in shared(place)] == [FROZEN]
    uploads = [request for request in place.store.requests if "frozen.safetensors" in request]
    assert len(uploads) == 1
    assert not list(place.store.root.glob("checkpoints/checkpoint-*/frozen.safetensors"))


def test_a_file_that_did_not_change_is_shared_from_the_second_time_on(place: Place) -> None:
    publish(place, 5, 10, 15, constant=())

    flags = [
        {entry.path for entry in manifest_of(place, step).files if entry.shared}
        for step in (5, 10, 15)
    ]
    assert flags == [set(), {"frozen.safetensors"}, {"frozen.safetensors"}]


def test_a_constant_file_that_changes_all_the_same_is_another_one(place: Place) -> None:
    publisher = publish(place, 5)
    publish(place, 10, publisher=publisher, frozen=FROZEN + b"!")

    assert len(shared(place)) == 2
    assert place.remote.problem("checkpoint-5", manifest_of(place, 5)) is None


def test_small_files_are_never_shared(place: Place) -> None:
    publish(place, 5, 10, frozen=b"x" * (SHARED_FROM - 1))

    assert shared(place) == []


def test_a_restored_checkpoint_is_complete(place: Place) -> None:
    publish(place, 5, 10)
    shutil.rmtree(place.local.folder)
    place.local.folder.mkdir()

    place.remote.restore("checkpoint-10", to=place.local.path("checkpoint-10"))

    folder = place.local.path("checkpoint-10")
    assert (folder / "frozen.safetensors").read_bytes() == FROZEN
    assert place.local.problem("checkpoint-10") is None


def test_a_missing_shared_file_makes_a_checkpoint_broken(place: Place) -> None:
    publish(place, 5)
    shared(place)[0].unlink()

    problem = place.remote.problem("checkpoint-5", manifest_of(place, 5))

    assert problem == "frozen.safetensors is missing"


def test_a_shared_file_goes_with_the_last_that_needs_it(place: Place) -> None:
    publisher = publish(place, 5, 10, publisher=place.publisher(retention=Retention(last=1)))
    assert place.stored() == ["checkpoint-10"]
    assert len(shared(place)) == 1

    publish(place, 15, publisher=publisher, frozen=FROZEN + b"!")

    assert place.stored() == ["checkpoint-15"]
    assert [path.read_bytes() for path in shared(place)] == [FROZEN + b"!"]


def test_shared_files_stay_while_a_manifest_cannot_be_read(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    publish(place, 5)
    foreign = place.store.root / "checkpoints/checkpoint-10"
    foreign.mkdir()
    (foreign / "manifest.json").write_text('{"format": 3}')
    orphan = place.store.root / f"checkpoints/shared/{'a' * 64}/frozen.safetensors"
    orphan.parent.mkdir()
    orphan.touch()

    with caplog.at_level(logging.WARNING):
        place.publisher().drain(0)

    assert orphan.exists()
    assert foreign.exists()
    assert "shared files stay" in caplog.text


ORPHAN = f"checkpoints/shared/{'a' * 64}/frozen.safetensors"


def tear(place: Place, content: bytes) -> Path:
    """Publish two, cut the manifest of the first, and leave a shared file that nobody needs."""
    publish(place, 5, 10)
    manifest = place.store.root / "checkpoints/checkpoint-5/manifest.json"
    manifest.write_bytes(content)
    (place.store.root / ORPHAN).parent.mkdir()
    (place.store.root / ORPHAN).touch()
    return manifest


@pytest.mark.parametrize("content", [b"", b'{"format": 2, "run', b'{"format": 2}'])
def test_a_torn_manifest_is_an_upload_that_never_finished(place: Place, content: bytes) -> None:
    manifest = tear(place, content)

    RemoteCheckpoints(place.store).collect()

    assert not manifest.parent.exists()
    assert not (place.store.root / ORPHAN).exists()
    assert [path.read_bytes() for path in shared(place)] == [FROZEN]
    assert place.stored() == ["checkpoint-10"]


def test_an_answer_that_was_garbled_is_no_torn_manifest(place: Place) -> None:
    class Garbling(FolderStore):
        def read(self, path: str) -> bytes | None:
            content = super().read(path)
            return b"<html>bad gateway" if "checkpoint-5/" in path else content

    publish(place, 5, 10)

    RemoteCheckpoints(Garbling(place.store.root)).collect()

    assert place.stored() == ["checkpoint-10", "checkpoint-5"]
    assert len(shared(place)) == 1


def test_a_torn_one_that_is_pinned_stays(place: Place) -> None:
    manifest = tear(place, b"")
    place.remote.holds.pin("checkpoint-5")

    RemoteCheckpoints(place.store).collect()

    assert manifest.parent.exists()
    assert (place.store.root / ORPHAN).exists()


def test_what_a_dead_upload_left_is_removed(place: Place) -> None:
    half = place.store.root / "checkpoints/checkpoint-99"
    half.mkdir(parents=True)
    (half / "model.safetensors").touch()
    orphan = place.store.root / f"checkpoints/shared/{'a' * 64}/frozen.safetensors"
    orphan.parent.mkdir(parents=True)
    orphan.touch()

    publish(place, 5)

    assert not half.exists()
    assert not orphan.parent.exists()
    assert place.stored() == ["checkpoint-5"]


def test_a_half_sent_shared_file_is_sent_again(place: Place) -> None:
    publish(place, 5)
    shared(place)[0].write_bytes(FROZEN[:100])

    publish(place, 10)

    assert [path.read_bytes() for path in shared(place)] == [FROZEN]


def test_bytes_are_those_that_nothing_else_needs(place: Place) -> None:
    publish(place, 5, 10)
    five, ten = manifest_of(place, 5), manifest_of(place, 10)
    own = sum(entry.size for entry in five.files if not entry.shared)

    assert bytes_of([five], beside=[ten]) == own
    assert bytes_of([five]) == own + len(FROZEN)
