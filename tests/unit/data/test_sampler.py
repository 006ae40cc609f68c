"""The order of an epoch, and entering one in the middle."""

import pickle

import pytest

from mmrun.data.sampler import EpochSampler, Order, sequential, shuffled
from mmrun.data.start import Start

SIZE = 10


def indices(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return [draw.sample for draw in sampler]


def order_of(epoch: int, *, seed: int = 0, start: Start | None = None) -> list[int]:
    return indices(EpochSampler(shuffled(SIZE), size=SIZE, seed=seed, start=start), epoch)


def test_an_epoch_has_every_sample_once() -> None:
    assert sorted(order_of(3)) == list(range(SIZE))


def test_an_order_depends_on_seed_and_epoch_only() -> None:
    assert order_of(2, seed=5) == order_of(2, seed=5)


def test_neighbouring_seeds_and_epochs_share_no_order() -> None:
    orders = [tuple(order_of(epoch, seed=seed)) for epoch in range(6) for seed in range(6)]

    assert len(set(orders)) == len(orders)


@pytest.mark.parametrize("order", [shuffled(SIZE), sequential(SIZE)])
def test_an_epoch_is_entered_where_it_was_left(order: Order) -> None:
    whole = EpochSampler(order, size=SIZE, seed=1)
    rest = EpochSampler(order, size=SIZE, seed=1, start=Start(epoch=2, done=7))

    assert indices(rest, 2) == indices(whole, 2)[7:]


def test_the_epochs_after_the_entered_one_are_whole() -> None:
    start = Start(epoch=2, done=7)

    assert order_of(3, start=start) == order_of(3)


def test_the_stored_order_is_the_sequential_one() -> None:
    assert indices(EpochSampler(sequential(SIZE), size=SIZE, seed=3), 0) == list(range(SIZE))


def test_the_length_is_that_of_a_whole_epoch() -> None:
    start = Start(epoch=0, done=7)

    assert len(EpochSampler(shuffled(SIZE), size=SIZE, seed=0, start=start)) == SIZE


@pytest.mark.parametrize("multiple", [1, 4, 5, 16, 23])
@pytest.mark.parametrize("done", [0, 4, 7, SIZE])
def test_an_epoch_is_filled_up_with_its_first_samples(done: int, multiple: int) -> None:
    start = Start(epoch=2, done=done)
    sampler = EpochSampler(shuffled(SIZE), size=SIZE, seed=1, start=start, multiple=multiple)

    drawn = indices(sampler, 2)

    whole = order_of(2, seed=1)
    assert len(drawn) % multiple == 0
    assert drawn[: SIZE - done] == whole[done:]
    assert drawn[SIZE - done :] == (whole * 3)[: len(drawn) - (SIZE - done)]


def test_how_an_epoch_is_filled_up_does_not_depend_on_where_it_was_entered() -> None:
    whole = EpochSampler(shuffled(SIZE), size=SIZE, seed=1, multiple=4)
    rest = EpochSampler(shuffled(SIZE), size=SIZE, seed=1, multiple=4, start=Start(epoch=2, done=4))

    assert len(whole) == 12
    assert indices(whole, 2)[4:] == indices(rest, 2)


def test_random_numbers_belong_to_seed_epoch_and_sample() -> None:
    def numbers(seed: int, epoch: int) -> dict[int, float]:
        sampler = EpochSampler(shuffled(SIZE), size=SIZE, seed=seed)
        sampler.set_epoch(epoch)
        return {draw.sample: draw.random().random() for draw in sampler}

    drawn = [numbers(seed, epoch) for seed in range(3) for epoch in range(3)]

    assert numbers(2, 1) == numbers(2, 1)
    assert len({number for one in drawn for number in one.values()}) == len(drawn) * SIZE


def test_a_draw_is_the_same_in_another_process() -> None:
    (draw, *_) = EpochSampler(shuffled(SIZE), size=SIZE, seed=1)

    assert pickle.loads(pickle.dumps(draw)) == draw
