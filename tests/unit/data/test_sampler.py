"""The order of an epoch, and entering one in the middle."""

import pytest

from mmrun.data.sampler import EpochSampler, Order, Start, sequential, shuffled

SIZE = 10


def order_of(epoch: int, *, seed: int = 0, start: Start | None = None) -> list[int]:
    sampler = EpochSampler(shuffled(SIZE), size=SIZE, seed=seed, start=start)
    sampler.set_epoch(epoch)
    return list(sampler)


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
    rest = EpochSampler(order, size=SIZE, seed=1, start=Start(epoch=2, done=7, fill=4))
    whole.set_epoch(2)
    rest.set_epoch(2)

    assert list(rest)[4:] == list(whole)[7:]


def test_the_epochs_after_the_entered_one_are_whole() -> None:
    start = Start(epoch=2, done=7, fill=4)

    assert order_of(3, start=start) == order_of(3)


def test_the_stored_order_is_the_sequential_one() -> None:
    assert list(EpochSampler(sequential(SIZE), size=SIZE, seed=3)) == list(range(SIZE))


def test_the_length_is_that_of_a_whole_epoch() -> None:
    start = Start(epoch=0, done=7, fill=0)

    assert len(EpochSampler(shuffled(SIZE), size=SIZE, seed=0, start=start)) == SIZE
