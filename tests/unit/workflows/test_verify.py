"""What was removed while it was verified is not broken."""

from pathlib import Path

import pytest

from mmrun.checkpoints.entry import Entry
from mmrun.checkpoints.local import LocalCheckpoints
from mmrun.checkpoints.remote import NO_MANIFEST
from mmrun.checkpoints.spool import Spool
from mmrun.workflows.checkpoints.verify import verified, was_removed
from mmrun.workflows.target import Target
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
