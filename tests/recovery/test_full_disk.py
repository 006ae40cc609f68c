"""A disk that is full: small file systems in a mount name space of their own."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.recovery.project import MMRUN, Done, Project, outside

UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
TRAIN = f"{MMRUN} train --config_path experiment.yaml"


def can_mount() -> bool:
    try:
        tried = subprocess.run(
            [*UNSHARE, "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(
    not can_mount(), reason="this system lets nobody mount a small file system in a name space"
)


def shell(project: Project, *lines: str) -> Done:
    """Run commands in one name space; what is mounted there is gone afterwards."""
    finished = subprocess.run(
        [*UNSHARE, "\n".join(lines)],
        cwd=project.folder,
        env=outside(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Done(code=finished.returncode, said=finished.stdout)


def small(folder: Path, *, kilobytes: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    return f"mount -t tmpfs -o size={kilobytes}k tmpfs {shlex.quote(str(folder))}"


def room(folder: Path) -> str:
    return f"mount -o remount,size=100m {shlex.quote(str(folder))}"


def codes(said: str) -> Sequence[int]:
    return [int(code) for code in re.findall(r"^code (\d+)$", said, re.MULTILINE)]


def test_a_full_store_costs_nothing_and_sync_sends_later(project: Project) -> None:
    store = project.folder / "mlartifacts"

    done = shell(
        project,
        small(store, kilobytes=300),
        f"{TRAIN}; echo code $?",
        room(store),
        f"{MMRUN} sync out; echo code $?",
        f"{MMRUN} checkpoints verify out; echo code $?",
    )

    assert codes(done.said) == [0, 0, 0], done.said
    assert "No space left on device" in done.said
    assert "the store takes no checkpoints now" in done.said
    assert "'mmrun sync out' sends it" in done.said
    assert re.search("sent [34] checkpoints", done.said), done.said  # the oldest is not needed
    assert "checkpoint-23 (here): whole" in done.said
    assert "checkpoint-23 (in the store): whole" in done.said
    assert project.run.status == "FINISHED"


def test_a_full_spool_costs_nothing_and_sync_sends_later(project: Project) -> None:
    spool = project.out / "spool"

    done = shell(
        project,
        small(spool, kilobytes=200),
        f"{TRAIN}; echo code $?",
        room(spool),
        f"{MMRUN} sync out; echo code $?",
        f"{MMRUN} checkpoints list out; echo code $?",
    )

    assert codes(done.said) == [0, 0, 0], done.said
    assert "could not be queued for the store" in done.said
    assert "not sent yet: checkpoint-6" in done.said
    assert "sent 3 checkpoints" in done.said
    assert re.search(r"^23 .* both +whole +latest", done.said, re.MULTILINE), done.said


@pytest.mark.parametrize("kilobytes", [1000, 2100])
def test_a_full_disk_ends_the_training_and_loses_nothing_whole(
    project: Project, kilobytes: int
) -> None:
    train = project.out / "train"

    done = shell(
        project,
        small(train, kilobytes=kilobytes),
        f"{TRAIN}; echo code $?",
        f"{MMRUN} checkpoints list out; echo code $?",
        room(train),
        f"{TRAIN}; echo code $?",
    )

    assert codes(done.said) == [5, 0, 0], done.said
    assert re.search(r"error: checkpoint \d+ could not be (written|saved)", done.said), done.said
    assert "make room on the disk, then run the same command again" in done.said
    assert re.search(r"goes on: attempt 2, from step (6|12|18)$", done.said, re.MULTILINE), (
        done.said
    )
    assert project.run.status == "FINISHED"
    assert project.attempt(1)["ended"] == "failed"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("pull {run_id}@23 small/new", id="pull from the store"),
        pytest.param("pull 23 small/new --output_dir out", id="pull from this disk"),
        pytest.param("average {run_id}@18 {run_id}@23 --output small/new", id="fetch for a mean"),
        pytest.param("average 18 23 --output_dir out --output small/new", id="mean"),
    ],
)
def test_what_finds_no_room_for_a_checkpoint_says_so_and_leaves_nothing(
    finished: Project, words: str
) -> None:
    folder = finished.folder / "small"
    command = f"{MMRUN} checkpoints {words.format(run_id=finished.run.run_id)}; echo code $?"

    done = shell(
        finished,
        small(folder, kilobytes=100),
        command,
        "echo left: $(ls -A small)",
        room(folder),
        command,
    )

    assert codes(done.said) == [5, 0], done.said
    assert re.search("^error: .*the disk is full$", done.said, re.MULTILINE), done.said
    assert "  try: make room on the disk" in done.said
    assert "left:\n" in done.said
