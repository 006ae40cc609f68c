import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.policy import Retention, Saved
from mmrun.checkpoints.publisher import Publisher
from mmrun.checkpoints.spool import Spool
from tests.unit.checkpoints.samples import RUN, Place, description, write_files


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.queued_steps: list[int] = []
        self.sent_steps: list[int] = []
        self.stored: list[list[str]] = []

    def queued(self, step: int, *, queue_bytes: int) -> None:
        assert queue_bytes > 0
        self.queued_steps.append(step)

    def sending(self) -> None:
        """Not of interest."""

    def sent(self, saved: Saved, *, seconds: float) -> None:
        self.sent_steps.append(saved.step)

    def settled(self, stored: Sequence[Saved] | None) -> None:
        self.stored.append([saved.name for saved in stored or ()])


def spooled(place: Place) -> list[str]:
    return [saved.name.removeprefix(f"{RUN}/") for saved in Spool(place.spool).waiting()]


def test_a_checkpoint_is_sent_with_its_manifest_last(place: Place) -> None:
    place.publish(5)

    uploads = [request for request in place.store.requests if request.startswith("upload")]
    assert sorted(uploads[:-1]) == [
        "upload checkpoints/checkpoint-5/model.safetensors",
        "upload checkpoints/checkpoint-5/nested/empty.txt",
        "upload checkpoints/checkpoint-5/optimizer.pt",
        "upload checkpoints/checkpoint-5/trainer_state.json",
    ]
    assert uploads[-1] == "upload checkpoints/checkpoint-5/manifest.json"
    assert spooled(place) == []


def test_a_store_out_of_reach_costs_no_checkpoint(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = place.publisher()
    place.store.away = True
    place.publish(5, 10, publisher=publisher)

    assert place.on_disk() == ["checkpoint-10", "checkpoint-5"]
    assert spooled(place) == ["checkpoint-5.a1", "checkpoint-10.a1"]
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "the store does not answer" in warnings[0].getMessage()


def test_what_waits_is_sent_when_the_store_is_back(place: Place) -> None:
    publisher = place.publisher()
    place.store.away = True
    place.publish(5, publisher=publisher)
    place.store.away = False

    place.publish(10, publisher=publisher)

    assert place.stored() == ["checkpoint-10", "checkpoint-5"]
    assert spooled(place) == []


def test_draining_says_what_is_left(place: Place) -> None:
    publisher = place.publisher()
    place.store.away = True
    place.publish(5, publisher=publisher)

    assert publisher.drain(0) == ["checkpoint-5.a1"]
    assert spooled(place) == ["checkpoint-5.a1"]

    place.store.away = False

    assert publisher.drain(0) == []
    assert spooled(place) == []


def test_the_next_process_sends_what_the_last_one_left(place: Place) -> None:
    place.store.away = True
    place.publish(5)
    place.store.away = False

    following = place.publisher()
    following.recover()
    following.drain(0)

    assert place.stored() == ["checkpoint-5"]


def test_a_checkpoint_that_was_never_queued_is_found_again(place: Place) -> None:
    place.publish(5)
    place.save(10)

    following = place.publisher()
    following.recover()
    following.drain(0)

    assert place.stored() == ["checkpoint-10", "checkpoint-5"]


def test_what_retention_has_removed_from_the_store_is_not_sent_again(place: Place) -> None:
    retention = Retention(last=1, best=0)
    place.publish(5, 10, publisher=place.publisher(retention=retention))
    place.store.requests.clear()

    following = place.publisher(retention=retention)
    following.recover()
    following.drain(0)

    assert place.on_disk() == ["checkpoint-10", "checkpoint-5"]
    assert not [request for request in place.store.requests if request.startswith("upload")]


def test_local_rotation_does_not_take_away_what_waits(place: Place) -> None:
    publisher = place.publisher(retention=Retention(local=1, last=10))
    place.store.away = True
    place.publish(5, 10, publisher=publisher)
    shutil.rmtree(place.local.folder)
    place.store.away = False

    publisher.drain(0)

    assert place.stored() == ["checkpoint-10", "checkpoint-5"]


def test_a_long_outage_does_not_fill_the_disk(place: Place) -> None:
    publisher = place.publisher(retention=Retention(local=1, last=2, best=0))
    place.store.away = True

    place.publish(*range(1, 7), publisher=publisher)

    assert spooled(place) == ["checkpoint-5.a1", "checkpoint-6.a1"]
    assert len(place.on_disk()) <= 3


def test_retention_in_the_store_keeps_last_best_and_the_resumed_one(place: Place) -> None:
    place.publish(1, metrics={"eval_loss": 0.1})
    place.publish(2, 3)
    resumed_from = place.local.list()[1][1]
    assert resumed_from.step == 2
    publisher = place.publisher(retention=Retention(last=1, best=1), resumed_from=resumed_from)

    place.publish(4, 5, publisher=publisher)

    assert place.stored() == ["checkpoint-5", "checkpoint-2", "checkpoint-1"]


def test_a_dropped_checkpoint_loses_its_manifest_first(place: Place) -> None:
    place.publish(1, 2, publisher=place.publisher(retention=Retention(last=1)))

    assert [request for request in place.store.requests if request.startswith("delete")] == [
        "delete checkpoints/checkpoint-1/manifest.json",
        "delete checkpoints/checkpoint-1",
    ]
    assert not (place.store.root / "checkpoints/checkpoint-1").exists()


def test_a_store_that_cannot_delete_is_said_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.store.keeps_all = True

    place.publish(1, 2, 3, publisher=place.publisher(retention=Retention(last=1)))

    assert place.stored() == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]
    assert [r.getMessage() for r in caplog.records if "cannot delete" in r.getMessage()] == [
        "the store does not delete, so old checkpoints stay there: this back-end cannot delete"
    ]


def test_a_name_that_is_taken_is_never_written_again(tmp_path: Path) -> None:
    first = Place(tmp_path)
    first.publish(10)
    second = Place(tmp_path, lineage=[(1, 0), (2, 5)])
    publisher = second.publisher()
    publisher.recover()

    second.publish(10, publisher=publisher, attempt=2)

    assert second.stored() == ["checkpoint-10.a2", "checkpoint-10"]
    assert second.remote.look()[0][0].attempt == 2


def test_a_half_uploaded_folder_is_filled_again_without_strays(place: Place) -> None:
    place.store.away = True
    place.publish(5)
    place.store.away = False
    Spool(place.spool).begin(f"{RUN}/checkpoint-5.a1", as_="checkpoint-5")
    stray = place.store.root / "checkpoints/checkpoint-5/nested/stray.bin"
    stray.parent.mkdir(parents=True)
    stray.touch()

    place.publisher().drain(0)

    assert place.stored() == ["checkpoint-5"]
    assert not stray.exists()


def test_uploads_of_another_run_stay_where_they_are(place: Place) -> None:
    other = place.spool / ("f" * 32) / "checkpoint-5.a1"
    other.mkdir(parents=True)

    place.publish(5)

    assert other.exists()
    assert place.stored() == ["checkpoint-5"]


def test_who_asks_is_told_what_the_store_holds(place: Place) -> None:
    told = Told()
    publisher = place.publisher(retention=Retention(last=1, best=0), listener=told)

    place.publish(5, 10, publisher=publisher)

    assert told.queued_steps == [5, 10]
    assert told.sent_steps == [5, 10]
    assert told.stored[-1] == ["checkpoint-10"]


def test_without_a_store_everything_stays_on_disk(place: Place) -> None:
    publisher = Publisher(
        place.local, None, run_id=RUN, spool=place.spool, retention=Retention(local=2)
    )

    publisher.recover()
    place.publish(1, 2, 3, publisher=publisher)

    assert publisher.drain(0) == []
    assert place.on_disk() == ["checkpoint-3", "checkpoint-2"]
    assert not place.spool.exists()


def test_listing_reads_a_manifest_once(place: Place) -> None:
    place.publish(*range(1, 5))
    place.remote.entries()
    place.store.requests.clear()

    place.remote.entries()

    assert place.store.requests == ["list checkpoints"]


def test_checkpoints_of_another_run_are_left_alone(place: Place) -> None:
    place.local = LocalCheckpoints(place.local.folder, run_id=RUN)
    for step in (1, 1000):
        partial = write_files(place.local.partial(step), step=step)
        place.local.finish(partial, description(step, run_id="f" * 32))

    place.publish(5, 10, publisher=place.publisher(retention=Retention(local=1)))

    names = {path.name for path in place.local.folder.iterdir()}
    assert names == {"checkpoint-1", "checkpoint-1000", "checkpoint-10", "checkpoint-last"}
    assert (place.local.folder / "checkpoint-last").readlink() == Path("checkpoint-10")
