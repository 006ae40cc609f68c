"""The folder of decoded signals: whole entries or none, and a bounded size."""

import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmrun.data.decoded import DecodedFolder, Entry, to_evict

MB = 2**20
A, B, C = (letter * 38 for letter in "abc")
PUT = """
import sys
from pathlib import Path
from typing import Any
import numpy as np
from mmrun.data.decoded import DecodedFolder
folder = DecodedFolder(Path(sys.argv[1]), bound=2**20)
for _ in range(int(sys.argv[2])):
    folder.put("a" * 38, np.arange(5000, dtype=np.float32))
"""


def values(number: int = 5000) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.arange(number, dtype=np.float32)


def file_of(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


def got(folder: DecodedFolder, name: str) -> list[float]:
    found = folder.get(name)
    assert found is not None
    return list(found)


def used_an_hour_ago(folder: Path, name: str, *, hours: float = 1) -> None:
    os.utime(file_of(folder, name), (time.time() - hours * 3600,) * 2)


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(np.array([[0.1, -0.0], [np.inf, 3e-42]], dtype=np.float32), id="float32"),
        pytest.param(np.array([1, -(2**40)]), id="int64"),
        pytest.param(np.ones((1, 2, 3, 4, 5), dtype=np.uint8), id="five dimensions"),
        pytest.param(values(MB).reshape(4, -1), id="mapped"),
    ],
)
def test_what_was_put_is_read_bit_for_bit(tmp_path: Path, kept: Any) -> None:
    DecodedFolder(tmp_path, bound=10 * MB).put(A, kept)

    found = DecodedFolder(tmp_path, bound=10 * MB).get(A)

    assert found is not None
    assert (found.dtype, found.shape, found.tobytes()) == (kept.dtype, kept.shape, kept.tobytes())
    assert not found.flags.writeable


def test_what_cannot_be_an_entry_is_not_kept(tmp_path: Path) -> None:
    folder = DecodedFolder(tmp_path, bound=MB)

    folder.put(A, np.array([None]))
    folder.put(B, np.zeros((0, 3), dtype=np.float32))

    assert (folder.get(A), folder.get(B)) == (None, None)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[:-1], id="cut off"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole[:500] + bytes(len(whole) - 500), id="zeros at the end"),
        pytest.param(lambda whole: bytes(500) + whole[500:], id="zeros at the beginning"),
        pytest.param(lambda whole: whole.replace(b"<f4", b"<i4", 1), id="another type"),
    ],
)
def test_a_torn_entry_is_thrown_away(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = DecodedFolder(tmp_path, bound=MB)
    folder.put(A, values())
    file = file_of(tmp_path, A)
    file.write_bytes(damage(file.read_bytes()))

    assert folder.get(A) is None
    assert not file.exists()


def test_a_link_leads_to_the_entry(tmp_path: Path) -> None:
    folder = DecodedFolder(tmp_path, bound=MB)
    folder.put(A, values())

    folder.link(B, to=A)

    assert got(folder, B) == list(values())


def test_a_torn_entry_is_thrown_away_through_a_link(tmp_path: Path) -> None:
    folder = DecodedFolder(tmp_path, bound=MB)
    folder.put(A, values())
    folder.link(B, to=A)
    file_of(tmp_path, A).write_bytes(b"torn")

    assert folder.get(B) is None

    folder.put(A, values())
    assert folder.get(B) is not None


@pytest.mark.parametrize(
    ("needed", "before", "evicted", "left"),
    [
        pytest.param(10, 9.0, [], 60, id="there is room"),
        pytest.param(60, 9.0, ["old"], 30, id="the oldest goes"),
        pytest.param(85, 9.0, ["old", "middle"], 5, id="as many as are needed"),
        pytest.param(85, 2.0, ["old"], 30, id="none that was used since"),
        pytest.param(1000, 9.0, ["old", "middle", "new"], 0, id="never enough"),
    ],
)
def test_eviction(needed: int, before: float, evicted: list[str], left: int) -> None:
    entries = [
        Entry(3.0, 5, Path("new")),
        Entry(1.0, 30, Path("old")),
        Entry(2.0, 25, Path("middle")),
    ]

    gone, rest = to_evict(entries, needed=needed, bound=100, before=before)

    assert ([entry.path.name for entry in gone], rest) == (evicted, left)


def test_the_bound_holds_over_many_trainings(tmp_path: Path) -> None:
    for number in range(40):
        name = f"{number:038d}"
        DecodedFolder(tmp_path, bound=MB // 4).put(name, values())
        used_an_hour_ago(tmp_path, name, hours=100 - number)

    assert MB // 8 < bytes_in(tmp_path) <= MB // 4


def test_what_was_not_used_for_the_longest_makes_room(tmp_path: Path) -> None:
    before = DecodedFolder(tmp_path, bound=60_000)
    for name, hours in ((A, 3), (B, 2)):
        before.put(name, values())
        used_an_hour_ago(tmp_path, name, hours=hours)
    folder = DecodedFolder(tmp_path, bound=60_000)
    assert folder.get(A) is not None

    folder.put(C, values())

    assert [folder.get(name) is not None for name in (A, B, C)] == [True, False, True]


def test_what_this_training_uses_is_not_pushed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = DecodedFolder(tmp_path, bound=60_000)

    for name in (A, B, C):
        folder.put(name, values())

    assert [folder.get(name) is not None for name in (A, B, C)] == [True, True, False]
    assert "data.cache_size_mb" in caplog.text


def test_a_mapped_entry_outlives_its_removal(tmp_path: Path) -> None:
    folder = DecodedFolder(tmp_path, bound=10 * MB)
    folder.put(A, values(MB))
    found = folder.get(A)
    file_of(tmp_path, A).unlink()

    assert found is not None
    assert np.array_equal(found, values(MB))


def test_a_folder_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    folder = DecodedFolder(tmp_path / "file", bound=MB)

    folder.put(A, values())
    folder.put(B, values())

    assert folder.get(A) is None
    assert caplog.text.count("cannot be written") == 1


def test_entries_are_read_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    DecodedFolder(tmp_path, bound=MB).put(A, values())
    (tmp_path / "lock").unlink()
    (tmp_path / "lock").mkdir()
    folder = DecodedFolder(tmp_path, bound=MB)

    folder.put(B, values())

    assert folder.get(A) is not None


@pytest.mark.parametrize("ledger", ["", "no numbers", "7", "1e99 x", "99999999 0.0"])
def test_a_ledger_that_cannot_be_believed_is_counted_anew(tmp_path: Path, ledger: str) -> None:
    folder = DecodedFolder(tmp_path, bound=MB)
    folder.put(A, values())
    (tmp_path / "ledger").write_text(ledger)

    folder.put(B, values())

    assert folder.get(B) is not None
    assert int((tmp_path / "ledger").read_text().split()[0]) == 2 * 20480


def test_what_a_killed_process_left_goes_when_it_is_counted(tmp_path: Path) -> None:
    folder = DecodedFolder(tmp_path, bound=MB)
    folder.link(B, to=A)
    left = tmp_path / "aa" / ".x.0.partial"
    left.parent.mkdir()
    left.touch()
    os.utime(left, (0, 0))

    folder.put(C, values())

    assert [path.name for path in tmp_path.glob("??/*")] == [C[2:]]


@pytest.mark.parametrize("moment", ["cache.begun", "cache.written", "cache.counted"])
def test_a_process_that_dies_while_it_writes_leaves_no_entry(tmp_path: Path, moment: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", PUT, str(tmp_path), "1"],
        env={**os.environ, "MMRUN_KILL_AT": moment},
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    folder = DecodedFolder(tmp_path, bound=MB)
    assert folder.get(A) is None

    folder.put(A, values())

    assert got(folder, A) == list(values())


def test_several_processes_write_the_same_entry(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PUT, str(tmp_path), "50"]
    writers = [subprocess.Popen(command) for _ in range(3)]
    folder = DecodedFolder(tmp_path, bound=MB)

    found = []
    while any(writer.poll() is None for writer in writers):
        found.append(folder.get(A))

    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert all(np.array_equal(one, values()) for one in found if one is not None)
    assert [path.name for path in tmp_path.glob("??/*")] == [A[2:]]


def test_a_folder_travels_to_another_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    folder = DecodedFolder(tmp_path, bound=MB)
    folder.put(A, values())

    assert pickle.loads(pickle.dumps(folder)).get(A) is not None
