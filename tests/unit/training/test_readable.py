"""What cannot be read is told before a training begins: what is cut is not called code."""

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmrun.errors import CheckpointError
from mmrun.training.readable import check_readable
from tests.recovery.damage import cut, empty


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2])


def without_its_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped_in_the_pickle(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b"exp_avg")
    path.write_bytes(content[:at] + b"\x80" + content[at + 1 :])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint-5"
    folder.mkdir()
    torch.save({"state": {0: {"exp_avg": torch.ones(1000)}}}, folder / "optimizer.pt")
    return folder


@pytest.mark.parametrize("damage", [cut, empty, short, without_its_end, flipped_in_the_pickle])
@pytest.mark.parametrize("versions", [{}, {"torch": "1.0.0"}], ids=["same", "other versions"])
def test_a_file_that_lost_something_is_said_to_be_cut_or_damaged(
    checkpoint: Path, damage: Callable[[Path], None], versions: dict[str, str]
) -> None:
    damage(checkpoint / "optimizer.pt")

    with pytest.raises(
        CheckpointError, match=r"checkpoint-5/optimizer\.pt is cut or damaged"
    ) as caught:
        check_readable(checkpoint, versions=versions)

    assert caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pickle.dumps(random.Random(7)), id="a bare pickle"),
        pytest.param(pickle.dumps({"a": 1})[:-1], id="a bare pickle that is cut"),
        pytest.param(b"some text\n", id="text"),
        pytest.param(b"\x00" * 100, id="zeros"),
    ],
)
def test_what_torch_did_not_write_is_refused_as_that(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "optimizer.pt").write_bytes(content)

    with pytest.raises(CheckpointError, match="holds more than plain data, so it is not read"):
        check_readable(checkpoint, versions={})


def test_an_archive_with_more_than_plain_data_is_refused_as_that(checkpoint: Path) -> None:
    torch.save({"state": random.Random(7)}, checkpoint / "optimizer.pt")

    with pytest.raises(CheckpointError, match="holds more than plain data, so it is not read"):
        check_readable(checkpoint, versions={})


def test_plain_data_is_read(checkpoint: Path) -> None:
    check_readable(checkpoint, versions={})
