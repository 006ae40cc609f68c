"""A process dies while it saves or sends; what the next one finds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmrun.checkpoints.archive import Archive
from mmrun.checkpoints.reference import Reference
from tests.unit.checkpoints.samples import RUN, Place

LATEST = Reference(text="latest", which="latest")
REPOSITORY = Path(__file__).parents[2]
PUBLISH = """
import sys
from pathlib import Path
from tests.unit.checkpoints.samples import Place
root, *steps = sys.argv[1:]
Place(Path(root)).publish(*map(int, steps))
"""


def die_at(moment: str, *, root: Path) -> None:
    """Publish the steps 5 and 10 in a process that is killed at ``moment`` of step 10."""
    finished = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(root), "5", "10"],
        cwd=REPOSITORY,
        env={**os.environ, "MMRUN_KILL_AT": f"{moment}@10"},
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL


def recovered(root: Path) -> Place:
    """Return the place as the next process has it once it holds the run."""
    place = Place(root)
    publisher = place.publisher()
    publisher.recover()
    publisher.drain(0)
    return place


def latest(place: Place) -> int:
    return Archive(place.local, place.remote, run_id=RUN).resolve(LATEST).step


BEFORE_THE_RENAME = ["checkpoint.saved", "checkpoint.manifest"]
AFTER_THE_RENAME = ["checkpoint.renamed", "upload.files", "upload.manifest"]


@pytest.mark.parametrize("moment", BEFORE_THE_RENAME)
def test_a_save_that_dies_before_the_rename_leaves_no_checkpoint(
    tmp_path: Path, moment: str
) -> None:
    die_at(moment, root=tmp_path)

    place = Place(tmp_path)
    assert place.on_disk() == ["checkpoint-5"]
    assert place.stored() == ["checkpoint-5"]
    assert latest(place) == 5


@pytest.mark.parametrize("moment", BEFORE_THE_RENAME + AFTER_THE_RENAME)
def test_the_next_process_finds_no_scratch_folder(tmp_path: Path, moment: str) -> None:
    die_at(moment, root=tmp_path)

    place = recovered(tmp_path)

    names = {path.name for path in place.local.folder.iterdir()}
    assert not [name for name in names if name.startswith(".")]
    assert not [path for path in place.spool.rglob("*") if path.is_file()]


@pytest.mark.parametrize("moment", AFTER_THE_RENAME)
def test_what_bears_its_name_is_whole_and_reaches_the_store(tmp_path: Path, moment: str) -> None:
    die_at(moment, root=tmp_path)

    place = recovered(tmp_path)

    assert place.local.problem("checkpoint-10") is None
    assert place.stored() == ["checkpoint-10", "checkpoint-5"]
    assert latest(place) == 10
    assert (place.local.folder / "checkpoint-last").readlink() == Path("checkpoint-10")


def test_an_upload_that_dies_before_its_manifest_does_not_exist_in_the_store(
    tmp_path: Path,
) -> None:
    die_at("upload.files", root=tmp_path)

    place = Place(tmp_path)
    assert (place.store.root / "checkpoints/checkpoint-10/model.safetensors").exists()
    assert place.stored() == ["checkpoint-5"]


def test_an_upload_that_dies_after_its_manifest_is_not_sent_again(tmp_path: Path) -> None:
    die_at("upload.manifest", root=tmp_path)

    place = recovered(tmp_path)

    assert place.stored() == ["checkpoint-10", "checkpoint-5"]
    assert not [request for request in place.store.requests if request.startswith("upload")]


def test_a_save_begun_again_ends_like_one_that_was_left_alone(tmp_path: Path) -> None:
    die_at("checkpoint.manifest", root=tmp_path)

    place = recovered(tmp_path)
    place.publish(10, attempt=2)

    assert place.local.problem("checkpoint-10") is None
    assert place.stored() == ["checkpoint-10", "checkpoint-5"]
