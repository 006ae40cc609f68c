"""The version of the data follows the content, wherever it lies."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from mmrun.config.schema import DataSection, Experiment
from mmrun.errors import DataError
from mmrun.provenance.data import data_version, same_data

HEADER = "signal\tsignal_start\toutput\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "data"
    (folder / "npy").mkdir(parents=True)
    for name in ("a", "b", "unused"):
        (folder / "npy" / f"{name}.npy").write_bytes(name.encode())
    (folder / "train.tsv").write_text(f"{HEADER}npy/a.npy\t0\tone\nnpy/b.npy\t0\ttwo\n")
    (folder / "val.tsv").write_text(f"{HEADER}npy/b.npy\t0\ttwo\nno such file\t0\t\n")
    return folder


def experiment(folder: Path) -> Experiment:
    return Experiment(
        data=DataSection(
            train_metadata_file=folder / "train.tsv", validation_metadata_file=folder / "val.tsv"
        )
    )


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def track(folder: Path, *, by: str = "data.dvc") -> str:
    """Write what DVC writes for ``folder``; return its digest."""
    entries = [
        {"md5": md5(file.read_bytes()), "relpath": file.relative_to(folder).as_posix()}
        for file in folder.rglob("*")
        if file.is_file()
    ]
    entries.sort(key=lambda entry: entry["relpath"])
    digest = md5(json.dumps(entries, sort_keys=True).encode()) + ".dir"
    out = f"- md5: {digest}\n  hash: md5\n  path: {folder.name}\n"
    if by == "dvc.lock":
        out = "stages:\n  prepare:\n    cmd: x\n    outs:\n" + "".join(
            f"    {line}\n" for line in out.splitlines()
        )
    else:
        out = f"outs:\n{out}"
    (folder.parent / by).write_text(out)
    return f"dvc:{digest}"


def test_the_version_does_not_depend_on_where_the_data_lies(data: Path, tmp_path: Path) -> None:
    before = data_version(experiment(data))
    moved = data.parent.rename(tmp_path / "elsewhere") / data.name

    assert data_version(experiment(moved)) == before
    assert before.startswith("sha256:")


@pytest.mark.parametrize(
    ("file", "changes"),
    [("npy/a.npy", True), ("train.tsv", True), ("val.tsv", True), ("npy/unused.npy", False)],
)
def test_the_version_changes_with_the_content_that_is_used(
    data: Path, file: str, changes: bool
) -> None:
    before = data_version(experiment(data))
    (data / file).write_bytes((data / file).read_bytes() + b"\n")

    assert (data_version(experiment(data)) != before) is changes


def test_a_renamed_sample_is_another_version(data: Path) -> None:
    before = data_version(experiment(data))
    (data / "npy" / "a.npy").rename(data / "npy" / "c.npy")
    text = (data / "train.tsv").read_text()
    (data / "train.tsv").write_text(text.replace("npy/a.npy", "npy/c.npy"))

    assert data_version(experiment(data)) != before


@pytest.mark.parametrize("by", ["data.dvc", "dvc.lock"])
def test_tracked_data_bear_the_name_that_dvc_gave_them(data: Path, by: str) -> None:
    tracked = track(data, by=by)

    assert data_version(experiment(data)).split()[0] == tracked


def test_tracked_data_that_were_modified_count_by_their_content(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    track(data)
    (data / "npy" / "a.npy").write_bytes(b"changed")

    assert data_version(experiment(data)).startswith("sha256:")
    assert "data differs from what DVC has recorded" in caplog.text


def test_samples_outside_of_what_dvc_tracks_count_by_their_content(data: Path) -> None:
    track(data)
    (data.parent / "outside.npy").write_bytes(b"x")
    with (data / "train.tsv").open("a") as manifest:
        manifest.write("../outside.npy\t0\tthree\n")

    assert data_version(experiment(data)).startswith("sha256:")


@pytest.mark.parametrize("content", ["[broken", "- a list", "outs: 3", "outs:\n- path: data\n"])
def test_a_file_of_dvc_that_makes_no_sense_is_ignored(data: Path, content: str) -> None:
    (data.parent / "data.dvc").write_text(content)

    assert data_version(experiment(data)).startswith("sha256:")


def test_the_same_data_with_and_without_dvc_are_the_same(data: Path) -> None:
    plain = data_version(experiment(data))
    track(data)
    tracked = data_version(experiment(data))

    assert same_data(plain, tracked)
    assert same_data(tracked, plain)


def test_other_data_are_not_the_same(data: Path) -> None:
    before = data_version(experiment(data))
    (data / "npy" / "a.npy").write_bytes(b"changed")

    assert not same_data(before, data_version(experiment(data)))


def test_remembered_digests_are_used_until_a_file_changes(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    for file in data.rglob("*.*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
    before = data_version(experiment(data), cache=cache)
    remembered = json.loads(cache.read_text())
    (data / "npy" / "a.npy").write_bytes(b"b")

    again = data_version(experiment(data), cache=cache)

    assert len(remembered) == 4
    assert again == data_version(experiment(data)) != before


def test_a_damaged_cache_is_computed_again(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text("{")

    assert data_version(experiment(data), cache=cache) == data_version(experiment(data))


def test_a_missing_manifest_is_named(data: Path) -> None:
    (data / "val.tsv").unlink()

    with pytest.raises(DataError, match=r"val\.tsv: cannot be read"):
        data_version(experiment(data))
