"""Files that break after `setup`: an error, or samples that do not count."""

import logging
from pathlib import Path

import pytest

from mmrun.errors import DataError
from mmrun.training.position import read_position
from tests.integration.attempts import ROWS, Lab

BROKEN = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def broken(folder: Path, *rows: int) -> None:
    for row in rows:
        (folder / f"train-{row}.npy").write_bytes(b"broken")


def test_a_training_that_skips_goes_on_past_broken_files_and_counts_them(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(folder, data={"on_bad_sample": "skip"})
    broken(folder, 3, 4)

    with caplog.at_level(logging.WARNING):
        attempt = lab.attempt(num_train_epochs=2, max_steps=-1)

    counts = attempt.values("skipped_samples")
    assert counts[max(counts)] == 2 * BROKEN
    assert list(counts.values()) == sorted(counts.values())
    assert all(value > 0 for value in attempt.values("loss").values())
    assert "4 samples did not count" in caplog.text
    assert caplog.text.count("train.tsv:5: signal: ") == 1


def test_the_count_goes_on_in_the_next_attempt(folder: Path) -> None:
    lab = Lab(folder, data={"on_bad_sample": "skip"})
    broken(folder, *range(0, ROWS["train"], 3))

    alone = lab.attempt()
    first = lab.attempt(stop_at=4)
    second = lab.attempt(first.checkpoint)

    position = read_position(first.checkpoint)
    assert position is not None
    assert position.skipped > 0
    together = {**first.values("skipped_samples"), **second.values("skipped_samples")}
    assert together == alone.values("skipped_samples")
    assert {**first.values("loss"), **second.values("loss")} == alone.values("loss")
    assert all(weight.equal(alone.weights[name]) for name, weight in second.weights.items())


def test_a_row_is_named_once_by_all_workers_of_all_epochs(folder: Path) -> None:
    lab = Lab(folder, data={"on_bad_sample": "skip"})
    broken(folder, 3)
    said = logging.FileHandler(folder / "said.txt")  # which workers write to, too
    logging.getLogger("mmrun").addHandler(said)

    lab.attempt(num_train_epochs=2, max_steps=-1, dataloader_num_workers=1)

    logging.getLogger("mmrun").removeHandler(said)
    said.close()
    assert (folder / "said.txt").read_text().count("train.tsv:5: signal: ") == 1


def test_a_step_of_broken_samples_alone_changes_nothing_it_should_not(folder: Path) -> None:
    lab = Lab(folder, data={"on_bad_sample": "skip"})
    broken(folder, *range(1, ROWS["train"]))

    attempt = lab.attempt(max_steps=6, weight_decay=0.0)

    losses = attempt.values("loss")
    assert 0.0 in losses.values()
    assert all(weight.isfinite().all() for weight in attempt.weights.values())


def test_by_default_a_broken_file_ends_the_training_with_its_row(folder: Path) -> None:
    lab = Lab(folder)
    broken(folder, 3)

    with pytest.raises(DataError, match=r"train\.tsv:5: signal: .*train-3\.npy cannot be read"):
        lab.attempt(num_train_epochs=1, max_steps=-1)
