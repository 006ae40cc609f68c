import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmrun.config.schema import SPLITS
from mmrun.data.manifest import Columns, read_manifest
from mmrun.errors import UsageError
from mmrun.workflows.demo_data import MARK, Kind, write_demo_data
from mmrun.workflows.demo_kinds.digits import ROWS
from mmrun.workflows.demo_kinds.sample import WORDS


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "features"
    write_demo_data(out)
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "images"
    write_demo_data(out, kind="images")
    return out


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_says_as_many_words_as_there_are_digits(features: Path, split: str) -> None:
    (name,) = (known for known in SPLITS if known == split)

    rows = read_manifest(features / f"{name}.tsv", split=name, columns=Columns())

    assert len(rows) == ROWS[name]
    for row in rows:
        digits = np.load(features / row.signals[0].text)
        assert (digits.dtype, digits.shape[1]) == (np.float32, 64)
        assert 2 <= len(digits) == len(row.output.split()) <= 5
        assert {*row.output.split()} <= {*WORDS}


def test_values_are_scaled_to_shares(features: Path) -> None:
    found = np.concatenate([np.load(path) for path in (features / "test").iterdir()])

    assert (found.min(), found.max()) == (0, 1)


def test_no_digit_is_in_two_splits(features: Path) -> None:
    seen = [
        {digit.tobytes() for path in (features / split).iterdir() for digit in np.load(path)}
        for split in SPLITS
    ]

    assert seen[0].isdisjoint(seen[1])
    assert seen[0].isdisjoint(seen[2])
    assert seen[1].isdisjoint(seen[2])


def test_images_show_what_features_hold(features: Path, images: Path) -> None:
    digits = np.load(features / "train/00000.npy")
    picture = np.asarray(Image.open(images / "train/00000.png"))

    assert picture.shape == (8, 8 * len(digits))
    np.testing.assert_allclose(picture[:, :8].ravel() / 255, digits[0], atol=0.002)


def test_the_seed_decides_the_data(features: Path, tmp_path: Path) -> None:
    write_demo_data(tmp_path / "same")
    write_demo_data(tmp_path / "other", seed=1)

    assert content(tmp_path / "same") == content(features)
    assert content(tmp_path / "other") != content(features)


def test_the_same_data_is_left_alone(features: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in features.rglob("*")}

    write_demo_data(features)

    assert {path: path.stat().st_mtime_ns for path in features.rglob("*")} == before


@pytest.mark.parametrize("kind", ["features", "images"])
def test_its_own_folder_is_repaired_or_replaced(tmp_path: Path, kind: Kind) -> None:
    out = tmp_path / "data"
    write_demo_data(out)
    (out / "train/00007.npy").unlink()

    write_demo_data(out, kind=kind)

    suffix = "npy" if kind == "features" else "png"
    assert (out / f"train/00007.{suffix}").is_file()
    assert len(list((out / "train").iterdir())) == ROWS["train"]


@pytest.mark.parametrize("kind", ["signwriting", "text"])
def test_signals_without_files_stand_in_the_manifest(tmp_path: Path, kind: Kind) -> None:
    out = tmp_path / "data"

    write_demo_data(out, kind=kind)

    assert sorted(path.name for path in out.iterdir()) == sorted(
        [MARK, *(f"{split}.tsv" for split in SPLITS)]
    )
    for split in SPLITS:
        rows = read_manifest(out / f"{split}.tsv", split=split, columns=Columns())
        assert all(row.signals[0].text for row in rows)


def test_a_folder_of_someone_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(UsageError, match=r"holds thesis\.tex"):
        write_demo_data(tmp_path)


def test_a_file_added_to_its_folder_is_not_removed(tmp_path: Path) -> None:
    out = tmp_path / "data"
    write_demo_data(out)
    (out / "notes.txt").write_text("mine")
    (out / MARK).write_text("changed, so that it would be written again")

    with pytest.raises(UsageError, match=r"holds notes\.txt"):
        write_demo_data(out)

    assert (out / "notes.txt").is_file()
