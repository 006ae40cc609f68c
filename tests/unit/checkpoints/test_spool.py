import logging
from pathlib import Path

import pytest

from mmrun.checkpoints.spool import Spool
from tests.unit.checkpoints.samples import RUN, Place

NAME = f"{RUN}/checkpoint-5.a1"


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """Return the folder of a checkpoint that waits."""
    place = Place(tmp_path)
    place.save(5)
    Spool(place.spool).add(place.local.path("checkpoint-5"), place.local.list()[0][1])
    return place.spool / NAME


def write_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").unlink()  # it is linked to the one of the checkpoint
    (folder / "manifest.json").write_text(text)


def test_tidying_leaves_what_a_newer_mmrun_wrote(
    waiting: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = (waiting / "manifest.json").read_text()
    write_manifest(waiting, text.replace('"format": 2', '"format": 3'))
    spool = Spool(waiting.parent.parent, run_id=RUN)

    with caplog.at_level(logging.WARNING):
        spool.tidy()

    assert (waiting / "optimizer.pt").exists()
    (record,) = caplog.records
    assert "has format 3" in record.getMessage()
    assert "use the version of mmrun that wrote the checkpoint" in record.getMessage()


def test_tidying_sets_aside_what_cannot_be_read(waiting: Path) -> None:
    write_manifest(waiting, "torn")
    spool = Spool(waiting.parent.parent)

    spool.tidy()

    assert not waiting.exists()
    aside = spool.folder / "rejected" / NAME
    assert (aside / "optimizer.pt").exists()
    assert "not JSON" in aside.with_name(f"{aside.name}.reason.txt").read_text()
    spool.tidy()  # what is set aside is no entry
    assert aside.exists()
    assert not spool.waiting()


def test_tidying_removes_what_was_half_linked(waiting: Path) -> None:
    half = waiting.with_name(".checkpoint-10.a1.partial")
    half.mkdir()

    Spool(waiting.parent.parent).tidy()

    assert not half.exists()
    assert waiting.exists()
