"""Where a training stood, written down and entered again."""

import json
from pathlib import Path

import pytest
from torch.utils.data import BatchSampler

from mmrun.data.sampler import EpochSampler, Order, sequential, shuffled
from mmrun.errors import CheckpointError
from mmrun.training.position import (
    NAME,
    Entry,
    Position,
    enter,
    foreign_position,
    read_position,
    total_steps,
    write_position,
)

EPOCH = 3


def at(samples: int, *, epoch_done: bool = False) -> Position:
    return Position(step=100, epoch=EPOCH, samples=samples, epoch_done=epoch_done)


def batches_of(
    order: Order, entry: Entry, *, size: int, batch: int, drop_last: bool
) -> list[list[int]]:
    """Return the batches that are trained on after the entry."""
    sampler = EpochSampler(order, size=size, seed=1, start=entry.start)
    sampler.set_epoch(EPOCH)
    samples = [draw.sample for draw in sampler]
    return list(BatchSampler(samples, batch, drop_last=drop_last))


def test_a_position_comes_back_as_it_was_written(tmp_path: Path) -> None:
    position = Position(
        step=18,
        epoch=1,
        samples=56,
        epoch_done=False,
        running_losses=(0.1 + 0.2, 0.7),
        total_loss=98.7,
        counted_from=5,
        last_logged_step=15,
        elapsed_s=1.25,
        grad_norm=None,
        learning_rate=1e-5,
        stopped_early=True,
        best_by="eval_loss",
        optimizer="AdamW",
        parameters=(("a.weight", "b.weight"), ("a.bias",)),
    )

    write_position(tmp_path, position)

    assert read_position(tmp_path) == position


def test_a_folder_of_plain_hugging_face_has_no_position(tmp_path: Path) -> None:
    assert read_position(tmp_path) is None


def test_a_position_of_format_1_is_of_one_process(tmp_path: Path) -> None:
    position = {"format": 1, "step": 6, "epoch": 0, "samples": 48, "epoch_done": False}
    content = {**position, "running_loss": 1.5, "parameters": []}
    (tmp_path / NAME).write_text(json.dumps(content), encoding="utf-8")

    read = read_position(tmp_path)

    assert read is not None
    assert read.running_losses == (1.5,)


@pytest.mark.parametrize(
    ("losses", "processes", "own"),
    [
        pytest.param((1.5,), 1, [1.5], id="one"),
        pytest.param((1.5, 2.5), 2, [1.5, 2.5], id="as many as before"),
        pytest.param((1.5, 2.5), 1, [2.0], id="fewer"),
        pytest.param((1.5,), 2, [1.5, 1.5], id="more"),
    ],
)
def test_the_mean_of_the_running_losses_goes_on(
    losses: tuple[float, ...], processes: int, own: list[float]
) -> None:
    position = Position(step=6, epoch=0, samples=48, epoch_done=False, running_losses=losses)

    ranks = range(processes)

    assert [position.running_loss_of(rank, processes=processes) for rank in ranks] == own


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps({"format": 3}), encoding="utf-8")

    with pytest.raises(CheckpointError, match="has format 3"):
        read_position(tmp_path)


@pytest.mark.parametrize(
    ("step", "epoch", "samples", "epoch_done"),
    [
        pytest.param(0, -1, 10, True, id="before the first step"),
        pytest.param(1, 0, 4, False, id="after one step"),
        pytest.param(3, 0, 10, True, id="at the end of an epoch"),
        pytest.param(5, 1, 8, False, id="in the second epoch"),
    ],
)
def test_a_foreign_position_is_counted_in_steps_of_today(
    step: int, epoch: int, samples: int, epoch_done: bool
) -> None:
    position = foreign_position(step=step, size=10, batch=2, accumulation=2)

    assert (position.epoch, position.samples, position.epoch_done) == (epoch, samples, epoch_done)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("done", [0, 2, 4, 12, 16, 22, 23])
def test_no_sample_is_repeated_or_skipped_whatever_the_batch_size(
    done: int, batch: int, accumulation: int, drop_last: bool
) -> None:
    size = 23
    entry = enter(at(done), size=size, batch=batch, accumulation=accumulation, drop_last=drop_last)
    whole = EpochSampler(shuffled(size), size=size, seed=1)
    whole.set_epoch(EPOCH)

    batches = batches_of(shuffled(size), entry, size=size, batch=batch, drop_last=drop_last)
    trained = [sample for one in batches for sample in one]

    left = [draw.sample for draw in whole][done:]
    whole_batches = len(left) // batch * batch
    assert trained == (left[:whole_batches] if drop_last else left)
    assert entry.epoch == EPOCH
    assert entry.batches == entry.skip + len(batches)
    assert entry.nothing_left == (not trained)


@pytest.mark.parametrize("accumulation", [1, 2, 3])
@pytest.mark.parametrize("done", [2, 6, 8, 22])
def test_steps_of_the_loop_begin_at_the_first_batch_that_is_left(
    done: int, accumulation: int
) -> None:
    entry = enter(at(done), size=23, batch=2, accumulation=accumulation, drop_last=False)

    assert entry.skip % accumulation == 0


@pytest.mark.parametrize("drop_last", [False, True])
def test_the_next_epoch_begins_where_one_was_ended(drop_last: bool) -> None:
    entry = enter(at(23, epoch_done=True), size=23, batch=4, accumulation=1, drop_last=drop_last)

    assert (entry.epoch, entry.skip, entry.start.done) == (EPOCH + 1, 0, 0)
    assert entry.batches == (5 if drop_last else 6)


def test_a_smaller_training_set_leaves_nothing_of_the_epoch() -> None:
    entry = enter(at(20), size=12, batch=4, accumulation=1, drop_last=False)

    assert entry.nothing_left


def test_every_batch_size_of_one_epoch_together_sees_each_sample_once() -> None:
    size, done, seen = 23, 0, []
    for batch, steps in ((4, 2), (3, 1), (5, 1), (2, 99)):
        entry = enter(at(done), size=size, batch=batch, accumulation=1, drop_last=False)
        batches = batches_of(sequential(size), entry, size=size, batch=batch, drop_last=False)
        trained = [sample for one in batches[:steps] for sample in one]
        seen += trained
        done += len(trained)

    assert seen == list(range(size))


@pytest.mark.parametrize(
    ("before", "epochs", "batch", "accumulation", "drop_last", "total"),
    [
        pytest.param(None, 3, 4, 1, False, 18, id="a new one"),
        pytest.param(None, 3, 4, 1, True, 15, id="incomplete batches dropped"),
        pytest.param(None, 1.5, 4, 1, False, 9, id="part of an epoch"),
        pytest.param(None, 2, 4, 4, False, 4, id="a step of fewer batches"),
        pytest.param(None, 2, 99, 1, True, 2, id="no batch at all"),
        pytest.param(at(16), 5, 4, 1, False, 108, id="the same batch size"),
        pytest.param(at(16), 5, 2, 1, False, 116, id="half of it"),
        pytest.param(at(16), 5, 2, 2, False, 108, id="half of it, twice"),
        pytest.param(at(23, epoch_done=True), 5, 4, 1, False, 106, id="between two epochs"),
        pytest.param(at(16), 2, 4, 1, False, 100, id="already done"),
    ],
)
def test_the_total_of_epochs_counts_steps_of_then_and_of_today(
    *,
    before: Position | None,
    epochs: float,
    batch: int,
    accumulation: int,
    drop_last: bool,
    total: int,
) -> None:
    assert total == total_steps(
        before,
        epochs=epochs,
        size=23,
        batch=batch,
        accumulation=accumulation,
        drop_last=drop_last,
    )
