"""What newcomers give to `mmrun setup --check_files`, and what they are told."""

import logging
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageFont
from pose_format import Pose, PoseHeader
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

from mmrun.cli.main import run
from mmrun.errors import ConfigError, DataError

FILE = """\
data: {{dataset_type: {kind}2text, train_metadata_file: train.tsv}}
processor: {{{processor}}}
model: {{feat_dim: {size}{extractor}}}
training: {{output_dir: out}}
"""
CLIP = (
    ", feature_extractor_type: clip, feature_extractor_config: {hidden_size: 16, image_size: 32, "
    "intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2, patch_size: 16}"
)
HEADER = "signal\toutput\n"
SPANS = "signal\tsignal_start\tsignal_end\toutput\n"
FIRST = HEADER + "good.npy\tone\n"
SIGN = "M518x529S14c20481x471S27106503x489"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to stand in, with one file of features that is as it should be."""
    monkeypatch.chdir(tmp_path)
    np.save("good.npy", np.ones((4, 3), dtype=np.float32))
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:], root.level = handlers, level


def check(
    table: str | bytes,
    *,
    kind: str = "features",
    size: int = 3,
    processor: str = "",
    extractor: str = "",
) -> int:
    """Check the files of a manifest as the command line does; return its exit code."""
    text = FILE.format(kind=kind, size=size, processor=processor, extractor=extractor)
    Path("e.yaml").write_text(text)
    Path("train.tsv").write_bytes(table if isinstance(table, bytes) else table.encode())
    steps = ("--do_processor", "--do_dataset", "--check_files")
    return run(["setup", "--config_path", "e.yaml", *steps])


def video(frames: int = 25) -> bytes:
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        packets = [packet for _ in range(frames) for packet in stream.encode(picture)]
        for packet in (*packets, *stream.encode()):
            container.mux(packet)
    return file.getvalue()


def pose(*, frames: int = 5, people: int = 1, value: float = 0.5) -> bytes:
    part = PoseHeaderComponent("X", ["a", "b"], [], [], "XYC")
    points = np.random.default_rng(0).random((frames, people, 2, 2))
    if points.size:
        points[-1, 0, 0, 0] = value
    body = NumPyPoseBody(25, points, np.ones((frames, people, 2)))
    file = BytesIO()
    Pose(PoseHeader(0.2, PoseHeaderDimensions(9, 9, 1), [part]), body).write(file)
    return file.getvalue()


def png(size: int = 8) -> bytes:
    file = BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def npy(*shape: int, value: float = 1, dtype: Any = np.float32) -> bytes:
    file = BytesIO()
    np.save(file, np.full(shape, value, dtype=dtype))
    return file.getvalue()


HTML = b"<!doctype html><html><body>404 Not Found</body></html>"

TABLES = [
    # what it is, the manifest, the error, the remedy
    ("a misspelt column", "signl\toutput\ngood.npy\tone\n",
     "train.tsv:1: signal: the column is missing; there are signl, output",
     "rename 'signl' to 'signal'"),
    ("spaces for tabs", "signal output\ngood.npy one\n",
     "train.tsv:1: there is no tab in 'signal output'", "separate the columns by tabs"),
    ("commas for tabs", "signal,output\ngood.npy,one\n",
     "train.tsv:1: there is no tab in 'signal,output'", "separate the columns by tabs"),
    ("spaces in one row", FIRST + "good.npy one\n",
     "train.tsv:3: has no tab, so it is one field, the first line has 2", "a tab separates"),
    ("quoted columns", '"signal"\t"output"\n"good.npy"\t"one"\n',
     "train.tsv:1: the columns are in quotes", "save the table without quotes"),
    ("a spreadsheet", b"PK\x03\x04\x14\x00\x06\xff\xfe",
     "train.tsv:1: is not UTF-8", "train.tsv is a spreadsheet"),
    ("UTF-16 without a mark", FIRST.encode("utf-16-le"),
     "train.tsv:1: holds a zero byte", "save train.tsv as text in UTF-8"),
    ("line ends of old", FIRST.replace("\n", "\r"),
     "train.tsv: has carriage returns in place of ends of lines", "Unix or Windows"),
    ("nothing at all", "", "train.tsv: is empty", "the first line names the columns"),
    ("spans in seconds", SPANS + "good.npy\t0.5\t1.25\tone\n",
     "train.tsv:2: signal_start: '0.5' is not a whole number", "1.5 seconds are 1500"),
    ("a span that ends first", SPANS + "good.npy\t3\t1\tone\n",
     "train.tsv:2: signal_end: 1 is not beyond signal_start, 3", "where the span begins and ends"),
    ("a span outside", SPANS + "good.npy\t2\t400\tone\n",
     "train.tsv:2: signal: good.npy has 4 frames, the span is 2 to 400 frames",
     "correct signal_start and signal_end"),
    ("an empty target", FIRST + "good.npy\t\n",
     "train.tsv:3: output: is empty", "write the output of this row, or remove the row"),
    ("a target of spaces", FIRST + "good.npy\t   \n", "train.tsv:3: output: is empty", "write the"),
    ("a name that is not there", FIRST + "Good.npy\tone\n",
     "train.tsv:3: signal: there is no file Good.npy", "names are relative to /"),
    ("a path of elsewhere", FIRST + "/elsewhere/a.npy\tone\n",
     "train.tsv:3: signal: there is no file /elsewhere/a.npy", "make it relative to the folder"),
    ("an address", FIRST + "https://example.org/a.npy\tone\n",
     "train.tsv:3: signal: there is no file https:/example.org/a.npy", "fetch the file"),
    ("a home folder", FIRST + "~/a.npy\tone\n",
     "train.tsv:3: signal: there is no file ~/a.npy", "~ is not replaced"),
    ("a space before a name", FIRST + " good.npy\tone\n",
     "train.tsv:3: signal: there is no file  good.npy", "remove the spaces around the name"),
    ("a name of a kilobyte", FIRST + "e" * 1000 + ".npy\tone\n",
     "eee… cannot be read: File name too long", "name a file that you may read"),
    ("another kind of file", FIRST + "a.csv\tone\n",
     "train.tsv:3: signal: a.csv: files of this kind are not read", "store .npy"),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(rest, id=name) for name, *rest in TABLES])
def test_a_table_that_is_wrong_is_refused_in_the_words_of_its_writer(
    folder: Path, capsys: pytest.CaptureFixture[str], case: tuple[str | bytes, str, str]
) -> None:
    table, problem, remedy = case

    code = check(table)

    first, *_, last = capsys.readouterr().err.split("error: ", 1)[1].splitlines()
    assert code == DataError.exit_code
    assert problem in first
    assert remedy in last


VIDEO: dict[str, Any] = {"kind": "video", "size": 16, "extractor": CLIP}
IMAGE: dict[str, Any] = {
    "kind": "image",
    "size": 48,
    "processor": "modality_kwargs: {width: 4, height: 4}",
}
POSE: dict[str, Any] = {"kind": "pose", "size": 4}
FILES = [
    # what it is, its name, its content, how it is read, the error, the remedy
    ("an empty file", "a.npy", b"", {}, "is not a whole .npy file of numbers", "numpy.save"),
    ("a text as .npy", "a.npy", b"1 2\n3 4\n", {}, "is not a whole .npy file", "numpy.save"),
    ("a head that promises more", "a.npy", npy(4, 3).replace(b"(4, 3)", b"(9**9, 3)"), {},
     "is not a whole .npy file", "numpy.save"),
    ("no frame", "a.npy", npy(0, 3), {}, "a.npy has 0 frames", "remove the row"),
    ("a value that is no number", "a.npy", npy(4, 3, value=np.nan), {},
     "a.npy holds NaN or infinite values, first in frame 0", "extract these features again"),
    ("values of another model", "a.npy", npy(4, 5), {},
     "a.npy has 5 values a frame, model.feat_dim is 3", "set model.feat_dim to 5"),
    ("a list in place of a matrix", "a.npy", npy(4), {}, "a.npy has the shape [4]", "one row of"),
    ("words as .npy", "a.npy", npy(4, 3, dtype="U1"), {}, "does not hold numbers", "float32"),
    ("a page as video", "a.mp4", HTML, VIDEO, "is not a whole video file", "make it again"),
    ("a video cut off", "a.mp4", video()[:-700], VIDEO, "is not a whole video file", "make it"),
    ("an empty video", "a.mp4", b"", VIDEO, "is not a whole video file", "make it again"),
    ("features as video", "a.mp4", npy(4, 3), VIDEO, "is not a whole video file", "make it"),
    ("a page as image", "a.png", HTML, IMAGE, "is not a whole image", "open it in an image viewer"),
    ("an image cut off", "a.png", png(64)[:3000], IMAGE, "is not a whole image", "open it in"),
    ("an image without numbers", "a.npy", npy(8, 8, 3, value=np.nan), IMAGE,
     "a.npy holds values outside 0 to 1", "store bytes (uint8)"),
    ("a pose of another version", "a.pose", struct.pack("<f", 9) + pose()[4:], POSE,
     "is not a whole .pose file", "write it again with pose-format"),
    ("a pose cut off", "a.pose", pose()[:-7], POSE, "is not a whole .pose file", "write it again"),
    ("a pose of nobody", "a.pose", pose(people=0), POSE, "has no person in it", "remove the row"),
    ("a pose of no frame", "a.pose", pose(frames=0), POSE, "has 0 frames", "remove the row"),
    ("a pose without numbers", "a.pose", pose(value=np.nan), POSE,
     "holds NaN or infinite values", "estimate it again"),
    ("a pose of other points", "a.pose", pose(), {**POSE, "size": 5},
     "has 4 values a frame, model.feat_dim is 5", "set model.feat_dim to 4"),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(rest, id=name) for name, *rest in FILES])
def test_a_file_that_is_wrong_is_named_with_its_row(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    case: tuple[str, bytes, dict[str, Any], str, str],
) -> None:
    name, content, read, problem, remedy = case
    (folder / name).write_bytes(content)

    code = check(HEADER + f"{name}\tone\n", **read)

    first, *_, last = capsys.readouterr().err.split("error: ", 1)[1].splitlines()
    assert code == DataError.exit_code
    assert first.startswith("train.tsv:2: signal: a.")
    assert problem in first
    assert remedy in last


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((Path.mkdir, "Is a directory"), id="a folder"),
        pytest.param((lambda path: path.symlink_to(path), "symbolic links"), id="a loop of links"),
        pytest.param((lambda path: path.symlink_to("gone"), "leads nowhere"), id="a dead link"),
    ],
)
@pytest.mark.parametrize(
    ("name", "read"), [("a.npy", {}), ("a.mp4", VIDEO), ("a.png", IMAGE), ("a.pose", POSE)]
)
def test_what_is_no_file_is_not_called_a_broken_one(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    case: tuple[Callable[[Path], object], str],
    name: str,
    read: dict[str, Any],
) -> None:
    make, problem = case
    make(folder / name)

    assert check(HEADER + f"{name}\tone\n", **read) == DataError.exit_code
    said = capsys.readouterr().err
    assert f"train.tsv:2: signal: {name} cannot be read: " in said
    assert problem in said or "leads nowhere" in said


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        pytest.param(SIGN[:-7] + "0x489", "'S271060x489' is not SignWriting", id="a digit short"),
        pytest.param(SIGN.replace("S14c", "S99c"), "S99c20481x471", id="an unknown symbol"),
        pytest.param("hello", "'hello' is not SignWriting (FSW)", id="a word"),
    ],
)
def test_a_slip_in_signwriting_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], cell: str, problem: str
) -> None:
    assert check(HEADER + f"{cell}\tone\n", kind="signwriting", size=150528) == DataError.exit_code
    assert problem in capsys.readouterr().err


def test_a_font_that_cannot_draw_a_text_is_named_with_the_row(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    font = ImageFont.load_default(10)
    (folder / "plain.ttf").write_bytes(font.path.getvalue())  # type: ignore[union-attr]
    processor = "modality_kwargs: {font_path: plain.ttf, width: 16, height: 16}"

    code = check(HEADER + "word\tone\ngröße\ttwo\n", kind="image", size=48, processor=processor)

    assert code == DataError.exit_code
    assert "train.tsv:3: signal: " in capsys.readouterr().err


def test_a_token_that_is_there_twice_is_named_with_its_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "new.txt").write_text("\ufeff__de__\n__en__\n\n__de__\n", encoding="utf-8")

    code = check(FIRST, processor="new_vocabulary: new.txt")

    assert code == 0
    assert "new.txt: tokens that are there twice count once: __de__ (lines 1, 4)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("processor", "problem"),
    [
        pytest.param("new_vocabulary: latin.txt", "latin.txt:2: is not UTF-8", id="not UTF-8"),
        pytest.param("new_vocabulary: ./tokens", "there is no file ./tokens", id="no such file"),
        pytest.param("new_vocabulary: v.dir", "v.dir cannot be read: Is a dir", id="a folder"),
        pytest.param("tokenizer_path: v.dir", "v.dir: the folder holds nothing", id="no tokenizer"),
        pytest.param("modality_kwargs: {strid: 2}", "strid: is not a setting", id="a setting"),
    ],
)
def test_what_the_processor_needs_and_cannot_read_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], processor: str, problem: str
) -> None:
    (folder / "latin.txt").write_bytes(b"__de__\ngr\xfc\n")
    (folder / "v.dir").mkdir()

    code = check(FIRST, processor=processor)

    assert code == ConfigError.exit_code
    assert problem in capsys.readouterr().err


def test_several_tokens_in_one_line_of_a_file_are_suspected(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "new.txt").write_text("__de__, __en__\n")

    check(FIRST, processor="new_vocabulary: new.txt")

    assert "the first word of a line is one token, with its commas: '__de__, __en__' (line 1)" in (
        capsys.readouterr().err
    )


def test_spans_in_seconds_are_suspected(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.mp4").write_bytes(video(250))
    rows = "a.mp4\t1\t5\tone\na.mp4\t6\t9\ttwo\n"

    assert check(SPANS + rows, **VIDEO) == 0
    assert "train.tsv: each span of a row gives one frame only: are they in seconds?" in (
        capsys.readouterr().err
    )


def test_a_row_many_times_as_long_as_the_others_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("long.npy", np.ones((10_000, 3), dtype=np.float32))

    assert check(FIRST + "good.npy\tone\n" * 3 + "long.npy\tone\n") == 0
    assert "train.tsv:6: is the longest row, 10000 frames" in capsys.readouterr().err


def test_of_many_problems_ten_are_said_and_the_rest_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(HEADER + "".join(f"gone-{row}.npy\tone\n" for row in range(30)))

    said = capsys.readouterr().err
    assert said.count("there is no file") == 10
    assert "error: ... and 20 more" in said


def test_of_many_rows_left_out_ten_are_said_and_all_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = "".join(f"gone-{row}.npy\tone\n" for row in range(30))
    Path("e.yaml").write_text(FILE.format(kind="features", size=3, processor="", extractor=""))
    Path("train.tsv").write_text(FIRST + gone)

    code = run(
        ["setup", "--config_path", "e.yaml", "--do_dataset", "--set", "data.on_bad_sample=skip"]
    )

    said = capsys.readouterr().err
    assert code == 0
    assert said.count("there is no file") == 10
    assert "train.tsv: 30 of 31 rows: cannot be read: left out" in said
