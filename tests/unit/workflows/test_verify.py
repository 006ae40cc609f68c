"""What is removed or sent while it is verified is not broken."""

from pathlib import Path

import pytest

from mmrun.checkpoints.entry import Entry
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.remote import NO_MANIFEST
from mmrun.checkpoints.spool import Spool
from mmrun.tracking.lease import Lease
from mmrun.workflows.checkpoints.verify import verified, was_removed
from mmrun.workflows.target import NOWHERE, Target
from tests.fakes import MemoryStore
from tests.unit.checkpoints.samples import RUN, Place

UNFINISHED = Entry(name="checkpoint-5", step=5, manifest=None, problem=NO_MANIFEST)
DAMAGED = Entry(name="checkpoint-5", step=5, manifest=None, problem="manifest.json is damaged")


@pytest.fixture
def whole(tmp_path: Path) -> Entry:
    place = Place(tmp_path)
    place.save(5)
    (entry,) = place.local.entries()
    return entry


def test_what_is_not_there_any_more_was_removed(whole: Entry) -> None:
    assert was_removed(whole, None)
    assert was_removed(UNFINISHED, None)


def test_what_lost_its_manifest_is_being_removed(whole: Entry) -> None:
    assert was_removed(whole, UNFINISHED)


def test_what_is_still_there_is_broken(whole: Entry) -> None:
    assert not was_removed(whole, whole)
    assert not was_removed(whole, DAMAGED)
    assert not was_removed(UNFINISHED, UNFINISHED)


class Rotated(LocalCheckpoints):
    """Checkpoints that a training removes as soon as somebody begins to verify one."""

    def problem(self, name: str) -> str | None:
        self.remove("checkpoint-5")
        return super().problem(name)


def test_what_a_training_rotates_away_meanwhile_is_not_broken(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.save(5)
    local = Rotated(place.local.folder)
    target = Target(local=local, spool=Spool(place.spool), journal=tmp_path, run_id=RUN, store=None)

    assert list(verified(target)) == [("checkpoint-5 (here)", "removed meanwhile")]


class Unfinished:
    """A run with a checkpoint in its store that has files and no manifest."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.run = self.store.create(experiment="tests", name=None, tags={})
        files = self.store.artifacts(self.run.run_id)
        files.write("checkpoints/checkpoint-5/optimizer.pt", b"a part of it")
        self.spool = folder / "output/spool"
        self.folder = folder

    def found(self) -> list[tuple[str, str | None]]:
        target = Target(
            local=NOWHERE,
            spool=Spool(self.spool),
            journal=self.folder,
            run_id=self.run.run_id,
            store=self.store,
        )
        return list(verified(target))


@pytest.fixture
def unfinished(tmp_path: Path) -> Unfinished:
    return Unfinished(tmp_path)


def test_what_nobody_sends_never_finished(unfinished: Unfinished) -> None:
    assert unfinished.found() == [("checkpoint-5 (in the store)", NO_MANIFEST)]


def test_what_a_living_process_sends_is_under_way(unfinished: Unfinished) -> None:
    with Lease(unfinished.store, unfinished.run.run_id):
        found = unfinished.found()

    assert found == [("checkpoint-5 (in the store)", "its upload is under way")]


def test_what_a_dead_process_left_in_the_spool_waits(unfinished: Unfinished) -> None:
    place = Place(unfinished.folder)
    place.save(5)
    spool = Spool(unfinished.spool)
    spool.add(place.local.path("checkpoint-5"), place.local.list()[0][1])
    spool.begin(spool.waiting()[0].name, as_="checkpoint-5")

    assert unfinished.found() == [("checkpoint-5 (in the store)", "its upload waits in the spool")]
