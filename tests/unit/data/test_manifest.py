import logging
from pathlib import Path

import pytest

from mmrun.data.manifest import (
    Cell,
    Columns,
    Row,
    SignalColumns,
    TextColumns,
    read_manifest,
)
from mmrun.errors import DataError

ALL = "signal\tsignal_start\tsignal_end\tencoder_prompt\tdecoder_prompt\toutput\n"


def rows_of(folder: Path, text: str | bytes) -> list[Row]:
    path = folder / "train.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(path, split="train", columns=Columns())


def problem_of(folder: Path, text: str | bytes) -> DataError:
    with pytest.raises(DataError, match=r"train\.tsv") as caught:
        rows_of(folder, text)
    return caught.value


def test_a_row_has_what_its_columns_say(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, ALL + "a.npy\t2\t9\tread\t__en__\tfour two\n")

    assert rows == [
        Row(
            line=2,
            signals=(Cell(text="a.npy", start=2, end=9),),
            encoder_prompt="read",
            decoder_prompt="__en__",
            output="four two",
        )
    ]


def test_spans_and_prompts_are_optional(tmp_path: Path) -> None:
    (absent,) = rows_of(tmp_path, "output\tsignal\nfour\ta.npy\n")
    (empty,) = rows_of(tmp_path, ALL + "a.npy\t\t\t\t\tfour\n")

    assert absent == empty
    assert (empty.signals, empty.encoder_prompt) == ((Cell(text="a.npy"),), "")


def test_columns_may_have_any_name_and_a_row_several_signals(tmp_path: Path) -> None:
    columns = Columns(
        signals=(
            SignalColumns(signal="face", start="from", end=None),
            SignalColumns(signal="hands", start=None, end="to"),
        ),
        texts=TextColumns(output="german", encoder_prompt=None, decoder_prompt="start"),
    )
    path = tmp_path / "train.tsv"
    path.write_text("face\thands\tfrom\tto\tstart\tgerman\na.mp4\tb.pose\t3\t8\t__de__\tvier\n")

    rows = read_manifest(path, split="train", columns=columns)

    assert rows == [
        Row(
            line=2,
            signals=(Cell(text="a.mp4", start=3), Cell(text="b.pose", end=8)),
            encoder_prompt="",
            decoder_prompt="__de__",
            output="vier",
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "None",
        "NA",
        "nan",
        "007",
        "1e5",
        '"',
        'say "four',
        "'",
        "a\u2028b",
        "a\x0cb",
        "é 四",
    ],
)
def test_the_text_is_the_text(tmp_path: Path, text: str) -> None:
    rows = rows_of(tmp_path, f"signal\toutput\na.npy\t{text}\nb.npy\tfour\n")

    assert [row.output for row in rows] == [text, "four"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"signal\toutput\na.npy\tfour\n", id="plain"),
        pytest.param(b"signal\toutput\na.npy\tfour", id="no newline at the end"),
        pytest.param(b"\xef\xbb\xbfsignal\toutput\na.npy\tfour\n", id="byte order mark"),
        pytest.param(b"signal\toutput\r\na.npy\tfour\r\n", id="lines of Windows"),
        pytest.param(b"signal\toutput\n\na.npy\tfour\n\n", id="blank lines"),
    ],
)
def test_how_a_file_was_saved_makes_no_difference(tmp_path: Path, content: bytes) -> None:
    (row,) = rows_of(tmp_path, content)

    assert (row.signals[0].text, row.output) == ("a.npy", "four")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("signal\ttext\na\tb\n", ":1: output: the column is missing", id="no output"),
        pytest.param("", ": is empty", id="empty file"),
        pytest.param(
            "signal\toutput\tsignal\n", ":1: signal: the column is there twice", id="twice"
        ),
        pytest.param("signal\toutput\n", "the train split has no rows", id="no rows"),
        pytest.param(
            "signal\toutput\na\n",
            ":2: has no tab, so it is one field, the first line has 2",
            id="too few",
        ),
        pytest.param("signal\toutput\na\tb\tc\n", ":2: has 3 fields", id="too many"),
        pytest.param("signal\toutput\na\t\n", ":2: output: is empty", id="empty target"),
        pytest.param("signal\toutput\na\t \n", ":2: output: is empty", id="blank target"),
        pytest.param("signal\toutput\n\tb\n", ":2: signal: is empty", id="empty signal"),
        pytest.param(ALL + "a\tx\t0\t\t\tb\n", ":2: signal_start: 'x' is not", id="no number"),
        pytest.param(ALL + "a\t-1\t0\t\t\tb\n", ":2: signal_start: '-1'", id="negative"),
        pytest.param(ALL + "a\t5\t5\t\t\tb\n", ":2: signal_end: 5 is not beyond", id="no length"),
        pytest.param(b"signal\toutput\na\t\xff\n", ":2: is not UTF-8", id="another encoding"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_column(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    error = problem_of(tmp_path, text)

    assert problem in str(error)
    assert error.hint


def test_the_nearest_column_is_offered(tmp_path: Path) -> None:
    assert "rename 'outputs' to 'output'" in problem_of(tmp_path, "signal\toutputs\na\tb\n").hint


def test_ten_problems_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    error = problem_of(tmp_path, "signal\toutput\n" + "a\t\n" * 15)

    assert ":2:" in str(error)
    assert len(error.more) == 10
    assert error.more[-1] == "... and 5 more"


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*gone\.tsv \(data\.test_metadata_file\)"):
        read_manifest(tmp_path / "gone.tsv", split="test", columns=Columns())


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path, split="train", columns=Columns())


def test_columns_that_are_not_used_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rows_of(tmp_path, "signal\tspeaker\toutput\na\tAnn\tfour\nb\tBob\ttwo\n")

    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'train.tsv'}: columns that mmrun does not use: speaker"
    ]
