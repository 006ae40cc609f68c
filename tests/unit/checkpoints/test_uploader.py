"""The one thread that sends: when it ends, what it sends, and what it leaves alone."""

import threading
from pathlib import Path

import pytest

from mmrun.checkpoints.policy import Retention
from mmrun.checkpoints.spool import Spool
from mmrun.checkpoints.uploader import Uploader
from tests.unit.checkpoints.samples import RUN, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def uploader_of(place: Place) -> Uploader:
    spool = Spool(place.spool, run_id=RUN)
    return Uploader(place.remote, spool, retention=Retention(last=10))


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
