"""Files that are whole or not there."""

import errno
from pathlib import Path

import pytest

from mmrun.files import flush_tree, folder_whole, is_full, link_or_copy, sha256, write_whole


def test_a_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")

    assert sha256(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize("content", ["text ä", b"bytes"])
def test_a_file_is_written_with_the_folders_above_it(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new/folder/file"

    write_whole(path, content)

    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [child.name for child in path.parent.iterdir()] == ["file"]


def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "a long old content")

    write_whole(path, "new")

    assert path.read_text() == "new"


def test_a_reader_that_has_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    with path.open() as reader:
        write_whole(path, "new")

        assert reader.read() == "old"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "actors/model"

    with folder_whole(final) as scratch:
        (scratch / "weights").write_text("w")
        assert not final.exists()

    assert [path.name for path in final.parent.rglob("*")] == ["model", "weights"]


def test_a_failure_leaves_the_folder_that_was_there(tmp_path: Path) -> None:
    final = tmp_path / "model"
    final.mkdir()
    (final / "old").touch()

    with pytest.raises(OSError, match="disk full"), folder_whole(final) as scratch:
        (scratch / "half").touch()
        raise OSError("disk full")

    assert [path.name for path in final.iterdir()] == ["old"]


def test_a_whole_folder_replaces_the_one_before(tmp_path: Path) -> None:
    final = tmp_path / "model"
    for name in ("old", "new"):
        with folder_whole(final) as scratch:
            (scratch / name).touch()

    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("leftover", [".model.partial", ".model.old"])
def test_what_a_dead_process_left_is_not_in_the_folder(tmp_path: Path, leftover: str) -> None:
    (tmp_path / leftover / "nested").mkdir(parents=True)

    with folder_whole(tmp_path / "model") as scratch:
        (scratch / "whole").touch()

    assert [path.name for path in (tmp_path / "model").iterdir()] == ["whole"]
    assert not (tmp_path / leftover).exists()


def test_a_tree_with_links_is_flushed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")

    flush_tree(tmp_path)

    assert (tmp_path / "folder/file").exists()


def test_a_link_shares_the_content(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("content")

    link_or_copy(tmp_path / "source", tmp_path / "deep/target")

    assert (tmp_path / "deep/target").samefile(tmp_path / "source")


def test_where_a_link_cannot_be_made_the_content_is_copied(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("content")
    target = tmp_path / "target"
    target.write_text("in the way of a link")

    link_or_copy(tmp_path / "source", target)

    assert target.read_text() == "content"
    assert target.stat().st_nlink == 1


@pytest.mark.parametrize(
    ("error", "full"),
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), True, id="full"),
        pytest.param(OSError(errno.EDQUOT, "Disk quota exceeded"), True, id="quota"),
        pytest.param(OSError(errno.EACCES, "Permission denied"), False, id="something else"),
        pytest.param(
            RuntimeError("failures occurred:\n[Errno 28] No space left on device: 'x'"),
            True,
            id="as MLflow tells it",
        ),
        pytest.param(
            RuntimeError("I/O error: No space left on device (os error 28)"),
            True,
            id="as safetensors tells it",
        ),
        pytest.param(RuntimeError("28 failures"), False, id="a number"),
    ],
)
def test_a_full_disk_is_known_from_other_errors(error: Exception, full: bool) -> None:
    assert is_full(error) == full
