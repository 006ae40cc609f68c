"""What the training thread hands over is done beside it, and what fails there is told."""

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmrun.checkpoints.policy import Retention
from mmrun.checkpoints.spool import Spool
from mmrun.errors import CheckpointError, TrackingError
from tests.unit.checkpoints.samples import FolderStore, Place, description, write_files


class HangingStore(FolderStore):
    """A store whose uploads do not end before ``go`` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.go = threading.Event()
        self.begun = threading.Event()

    def upload(self, file: Path, *, to: str) -> None:
        self.begun.set()
        assert self.go.wait(60)
        super().upload(file, to=to)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[Place, HangingStore]]:
    store = HangingStore(tmp_path / "store")
    yield Place(tmp_path, store=store), store
    store.go.set()


def test_a_store_that_hangs_holds_up_nothing_on_disk(
    hanging: tuple[Place, HangingStore],
) -> None:
    place, store = hanging
    publisher = place.publisher()

    for step in (5, 10, 15):
        publisher.publish(write_files(place.local.partial(step), step=step), description(step))
    publisher.settle()

    assert place.on_disk() == ["checkpoint-15", "checkpoint-10", "checkpoint-5"]
    assert (place.local.folder / "checkpoint-last").readlink() == Path("checkpoint-15")
    store.go.set()
    assert publisher.drain(30) == []
    assert place.stored() == ["checkpoint-15", "checkpoint-10", "checkpoint-5"]


def test_a_slow_store_gets_what_would_be_kept_and_what_was_begun(
    hanging: tuple[Place, HangingStore], caplog: pytest.LogCaptureFixture
) -> None:
    place, store = hanging
    publisher = place.publisher(retention=Retention(last=1, best=1))

    publisher.publish(write_files(place.local.partial(5), step=5), description(5))
    assert store.begun.wait(30)
    for step, loss in ((10, 0.5), (15, 2.0), (20, 3.0)):
        partial = write_files(place.local.partial(step), step=step)
        publisher.publish(partial, description(step, metrics={"eval_loss": loss}))
    publisher.settle()

    waiting = [saved.step for saved in Spool(place.spool).waiting()]
    assert waiting == [5, 10, 20]  # begun, the best, the newest
    assert "checkpoint-15.a1 is not sent" in caplog.text
    store.go.set()
    assert publisher.drain(30) == []
    assert place.stored() == ["checkpoint-20", "checkpoint-10"]
    assert place.on_disk()[0] == "checkpoint-20"


def test_what_failed_in_the_background_is_told_at_the_next_checkpoint(place: Place) -> None:
    publisher = place.publisher()
    partial = write_files(place.local.partial(5), step=5)
    (partial / "link").symlink_to("optimizer.pt")
    publisher.publish(partial, description(5))

    with pytest.raises(CheckpointError, match="link is a link"):
        publisher.settle()

    place.publish(10, publisher=publisher)
    assert place.on_disk() == ["checkpoint-10"]


def test_what_belongs_to_a_checkpoint_can_be_added_in_the_background(place: Place) -> None:
    publisher = place.publisher()
    partial = write_files(place.local.partial(5), step=5)

    publisher.publish(
        partial, description(5), complete=lambda: (partial / "late.json").write_text("{}")
    )
    publisher.settle()

    assert (place.local.path("checkpoint-5") / "late.json").exists()
    assert place.local.problem("checkpoint-5") is None


def test_what_could_not_be_queued_is_queued_later(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.spool.parent.mkdir(parents=True)
    place.spool.touch()  # a file where the folder should be
    publisher = place.publisher()
    partial = write_files(place.local.partial(5), step=5)
    publisher.publish(partial, description(5))
    publisher.settle()
    assert "could not be queued for the store" in caplog.text
    assert place.stored() == []

    place.spool.unlink()

    assert publisher.drain(30) == []
    assert place.stored() == ["checkpoint-5"]


def test_the_local_folder_may_go_while_its_upload_runs(
    hanging: tuple[Place, HangingStore],
) -> None:
    place, store = hanging
    publisher = place.publisher()
    publisher.publish(write_files(place.local.partial(5), step=5), description(5))
    assert store.begun.wait(30)

    shutil.rmtree(place.local.folder)
    store.go.set()

    assert publisher.drain(30) == []
    assert place.stored() == ["checkpoint-5"]


def test_a_process_that_lost_the_run_sends_nothing_more(place: Place) -> None:
    held = threading.Event()
    publisher = place.publisher(may_write=held.is_set)

    place.publish(5, publisher=publisher)

    assert place.on_disk() == ["checkpoint-5"]
    assert place.stored() == []
    assert [saved.step for saved in Spool(place.spool).waiting()] == [5]


ALL_SENT = "the store takes checkpoints again, all have been sent"


def test_a_store_that_comes_back_is_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mmrun")
    place.store.away = True
    publisher = place.publisher()
    place.publish(5, 10, publisher=publisher)
    assert "the store takes no checkpoints now" in caplog.text

    place.store.away = False

    assert publisher.drain(30) == []
    assert ALL_SENT in caplog.text


def test_not_all_was_sent_where_the_run_was_lost_meanwhile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Losing(FolderStore):
        """A store that takes one checkpoint before another process takes the run."""

        def upload(self, file: Path, *, to: str) -> None:
            super().upload(file, to=to)
            if file.name == "manifest.json":
                held.clear()

    caplog.set_level(logging.INFO, logger="mmrun")
    held = threading.Event()
    held.set()
    place = Place(tmp_path, store=Losing(tmp_path / "store"))
    place.store.away = True
    publisher = place.publisher(may_write=held.is_set)
    place.publish(5, 10, publisher=publisher)

    place.store.away = False
    publisher.drain(30)

    assert place.stored() == ["checkpoint-10"]
    assert [saved.step for saved in Spool(place.spool).waiting()] == [5]
    assert ALL_SENT not in caplog.text


def test_not_all_was_sent_where_the_sending_was_stopped(
    hanging: tuple[Place, HangingStore], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mmrun")
    place, store = hanging
    store.away = True
    store.go.set()
    publisher = place.publisher()
    place.publish(5, 10, publisher=publisher)
    store.go.clear()
    store.begun.clear()
    store.away = False
    publisher.publish(write_files(place.local.partial(15), step=15), description(15))
    assert store.begun.wait(30)

    stopping = threading.Thread(target=publisher.stop)
    stopping.start()
    stopping.join(0.5)  # it waits for the requests that were begun
    store.go.set()
    stopping.join(30)

    assert place.stored() == []
    assert [saved.step for saved in Spool(place.spool).waiting()] == [5, 10, 15]
    assert ALL_SENT not in caplog.text


def test_why_an_upload_failed_stays_with_it(place: Place) -> None:
    place.store.away = True

    place.publish(5)

    (waiting,) = Spool(place.spool).waiting()
    state = Spool(place.spool).state(waiting.name)
    assert state.tries >= 1
    assert state.error == "the store does not answer"
    assert str(state).endswith(": the store does not answer")

    place.store.away = False
    place.publisher().drain(30)

    assert not list(place.spool.rglob("*.json"))


def test_a_full_store_costs_no_checkpoint_on_disk(place: Place) -> None:
    class Full(FolderStore):
        def upload(self, file: Path, *, to: str) -> None:
            raise TrackingError("no space left on device")

    full = Place(place.root, store=Full(place.root / "store"))

    full.publish(5)

    assert full.on_disk() == ["checkpoint-5"]
    (waiting,) = Spool(full.spool).waiting()
    assert Spool(full.spool).state(waiting.name).error == "no space left on device"


def test_an_upload_that_gets_on_is_waited_for(hanging: tuple[Place, HangingStore]) -> None:
    place, store = hanging
    publisher = place.publisher()
    publisher.publish(write_files(place.local.partial(5), step=5), description(5))
    assert store.begun.wait(30)

    threading.Timer(1.0, store.go.set).start()

    assert publisher.drain(0.1, patient=lambda: True) == []
    assert place.stored() == ["checkpoint-5"]


def test_a_failure_does_not_cost_the_checkpoint_after_it(place: Place) -> None:
    publisher = place.publisher()
    both_handed_over = threading.Event()

    def full() -> None:
        assert both_handed_over.wait(60)
        raise OSError(28, "No space left on device")

    publisher.publish(write_files(place.local.partial(5), step=5), description(5), complete=full)
    publisher.publish(write_files(place.local.partial(10), step=10), description(10))
    both_handed_over.set()

    with pytest.raises(CheckpointError, match="checkpoint 5 could not be saved"):
        publisher.settle()
    assert place.on_disk() == ["checkpoint-10"]


def test_a_full_disk_is_told_as_one_wherever_it_is_found(place: Place) -> None:
    publisher = place.publisher()

    def full() -> None:
        raise OSError(28, "No space left on device")

    publisher.publish(write_files(place.local.partial(5), step=5), description(5), complete=full)

    with pytest.raises(CheckpointError, match=r"checkpoint 5 could not be saved .*No space left"):
        publisher.settle()


def test_a_disk_without_links_costs_only_the_links(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    (place.local.folder / ".checkpoint-last.partial/in-the-way").mkdir(parents=True)

    place.publish(5, 10)

    assert place.on_disk() == place.stored() == ["checkpoint-10", "checkpoint-5"]
    assert caplog.text.count("has no links to last and best") == 1


def test_what_was_not_spooled_is_sent_though_the_store_was_away_at_the_start(
    place: Place,
) -> None:
    place.save(5, 10)
    publisher = place.publisher(retention=Retention(local=1, last=2))
    place.store.away = True
    publisher.recover()
    place.store.away = False

    place.publish(15, publisher=publisher)

    assert publisher.drain(30) == []
    assert place.stored() == ["checkpoint-15", "checkpoint-10"]
