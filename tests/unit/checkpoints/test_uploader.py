"""The one thread that sends: when it ends, what it sends, and what it leaves alone."""

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mmrun.checkpoints.policy import Retention, Saved
from mmrun.checkpoints.spool import Spool
from mmrun.checkpoints.uploader import Listener, Uploader
from mmrun.errors import TrackingError
from tests.unit.checkpoints.samples import (
    RUN,
    Between,
    FolderStore,
    Place,
    description,
    write_files,
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def uploader_of(
    place: Place,
    *,
    retention: Retention | None = None,
    listener: Listener | None = None,
    may_write: Callable[[], bool] = lambda: True,
) -> Uploader:
    return Uploader(
        place.remote,
        Spool(place.spool, run_id=RUN),
        retention=retention or Retention(last=10),
        listener=listener,
        may_write=may_write,
    )


class Told:
    """A listener that remembers what settled."""

    def __init__(self) -> None:
        self.stored: list[list[str]] = []

    def queued(self, step: int, *, queue_bytes: int) -> None:
        """Not of interest."""

    def sending(self) -> None:
        """Not of interest."""

    def sent(self, saved: Saved, *, seconds: float) -> None:
        """Not of interest."""

    def settled(self, stored: Sequence[Saved] | None) -> None:
        self.stored.append([saved.name for saved in stored or ()])


def queue(place: Place, *steps: int, attempt: int = 1) -> None:
    """Let ``steps`` wait for the store, as an earlier process would have left them."""
    place.save(*steps, attempt=attempt)
    spool = Spool(place.spool, run_id=RUN)
    for saved, manifest in place.local.list():
        if saved.step in steps:
            spool.add(place.local.path(saved.name), manifest)


def ends(work: threading.Thread, *, within_s: float) -> bool:
    work.start()
    work.join(within_s)
    return not work.is_alive()


def draining(uploader: Uploader) -> threading.Thread:
    return threading.Thread(
        target=lambda: uploader.drain(0.1, patient=lambda: True), name="draining", daemon=True
    )


def test_nobody_waits_for_an_uploader_that_was_stopped(place: Place) -> None:
    queue(place, 5)
    uploader = uploader_of(place)
    uploader.wake()
    uploader.stop()

    assert ends(draining(uploader), within_s=2)


def test_nobody_waits_for_an_uploader_that_was_stopped_before_it_began(place: Place) -> None:
    uploader = uploader_of(place)
    uploader.stop()

    assert ends(draining(uploader), within_s=2)


class Losing(FolderStore):
    """A store from which another process takes the run away at a request."""

    def __init__(self, root: Path, *, at: str) -> None:
        super().__init__(root)
        self.held = threading.Event()
        self.held.set()
        self._at = at

    def changes(self) -> list[str]:
        return [one for one in self.requests if one.startswith(("upload", "write", "delete"))]

    def _request(self, what: str) -> None:
        super()._request(what)
        if what.startswith(self._at) and self.held.is_set():
            self.requests.clear()
            self.held.clear()


def losing(root: Path, *, at: str) -> tuple[Place, Losing]:
    store = Losing(root / "store", at=at)
    return Place(root, store=store), store


def test_a_run_that_is_lost_meanwhile_gets_no_further_file(tmp_path: Path) -> None:
    place, store = losing(tmp_path, at="upload")
    queue(place, 5)
    publisher = place.publisher(may_write=store.held.is_set)
    partial = write_files(place.local.partial(10), step=10)
    for number in range(20):
        (partial / f"{number}.bin").write_bytes(b"x")

    publisher.publish(partial, description(10))
    publisher.drain(0)

    assert len(store.changes()) < 4  # those that were under way
    assert place.stored() == []
    waiting = Spool(place.spool).waiting()
    assert [one.step for one in waiting] == [5, 10]
    assert [Spool(place.spool).state(one.name).tries for one in waiting] == [0, 0]


@pytest.mark.parametrize("at", ["upload checkpoints/checkpoint-15/manifest", "delete"])
def test_a_run_that_is_lost_meanwhile_loses_nothing_more(tmp_path: Path, at: str) -> None:
    place, store = losing(tmp_path, at=at)
    store.held.clear()
    place.publish(5, 10)
    store.held.set()
    queue(place, 15)
    uploader = uploader_of(place, retention=Retention(last=1), may_write=store.held.is_set)

    uploader.drain(0)

    assert store.changes() == []


def test_the_last_whole_one_is_looked_for_also_in_what_was_just_sent(tmp_path: Path) -> None:
    store = Between(tmp_path / "store")
    sent = tmp_path / "store/checkpoints/checkpoint-10"
    place = Place(tmp_path, store=store)
    place.publish(5)
    queue(place, 10)
    store.awaited = lambda what: what == "list checkpoints/pins"  # retention decides
    store.then = lambda: shutil.rmtree(sent)

    uploader_of(place, retention=Retention(last=1, best=0)).drain(0)

    assert place.stored() == ["checkpoint-5"]


class Refusing(FolderStore):
    """A store that never takes one checkpoint."""

    def upload(self, file: Path, *, to: str) -> None:
        if f"{to}/{file.name}" == "checkpoints/checkpoint-10/optimizer.pt":
            raise TrackingError("413 too large")
        super().upload(file, to=to)


def test_one_that_is_refused_keeps_no_other_back(tmp_path: Path) -> None:
    place = Place(tmp_path, store=Refusing(tmp_path / "store"))
    place.publish(5)
    queue(place, 7, 10)
    told = Told()
    uploader = uploader_of(place, retention=Retention(last=1, best=0), listener=told)

    uploader.drain(0)

    assert place.stored() == ["checkpoint-7"]
    assert told.stored == [["checkpoint-7"]]
    (waiting,) = Spool(place.spool).waiting()
    assert waiting.step == 10
    assert Spool(place.spool).state(waiting.name).error == "413 too large"


def test_of_one_that_is_refused_nothing_takes_room_in_the_store(tmp_path: Path) -> None:
    place = Place(tmp_path, store=Refusing(tmp_path / "store"))
    queue(place, 10)
    uploader = uploader_of(place)

    for _ in range(2):
        uploader.drain(0)

        assert not (place.store.root / "checkpoints/checkpoint-10").exists()


def test_a_stray_file_that_cannot_be_deleted_keeps_nothing_back(place: Place) -> None:
    place.store.keeps_all = True
    stray = place.store.root / "checkpoints/checkpoint-5/stray.bin"
    stray.parent.mkdir(parents=True)
    stray.touch()
    queue(place, 5)
    Spool(place.spool).begin(f"{RUN}/checkpoint-5.a1", as_="checkpoint-5")

    uploader_of(place).drain(0)

    assert place.stored() == ["checkpoint-5"]
    assert place.remote.manifest("checkpoint-5") is not None


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def test_damaged_content_that_an_earlier_process_left_is_not_sent(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.publish(5)
    queue(place, 10)
    damage(place.spool / RUN / "checkpoint-10.a1/optimizer.pt")

    uploader_of(place, retention=Retention(last=1, best=0)).drain(0)

    assert place.stored() == ["checkpoint-5"]
    assert "checkpoint-10.a1 is not sent but set aside" in caplog.text
    assert "optimizer.pt is damaged" in caplog.text
    aside = place.spool / "rejected" / RUN
    assert (aside / "checkpoint-10.a1/model.safetensors").exists()
    assert "is damaged" in (aside / "checkpoint-10.a1.reason.txt").read_text()
    assert not Spool(place.spool).waiting()


def test_what_rots_while_it_waits_is_not_sent(place: Place) -> None:
    publisher = place.publisher()
    place.store.away = True
    place.publish(10, publisher=publisher)
    damage(place.spool / RUN / "checkpoint-10.a1/optimizer.pt")

    place.store.away = False
    publisher.drain(0)

    assert place.stored() == []
    assert (place.spool / "rejected" / RUN / "checkpoint-10.a1").exists()


def test_what_this_process_saves_needs_no_second_reading(place: Place) -> None:
    spool = Spool(place.spool, run_id=RUN)
    place.save(5)
    spool.add(place.local.path("checkpoint-5"), place.local.list()[0][1])

    assert spool.trusts(f"{RUN}/checkpoint-5.a1")
    assert not Spool(place.spool, run_id=RUN).trusts(f"{RUN}/checkpoint-5.a1")


def test_what_an_earlier_process_saved_is_read_before_it_is_sent(place: Place) -> None:
    place.save(5)
    time.sleep(0.002)
    spool = Spool(place.spool, run_id=RUN)

    spool.add(place.local.path("checkpoint-5"), place.local.list()[0][1])

    assert not spool.trusts(f"{RUN}/checkpoint-5.a1")
