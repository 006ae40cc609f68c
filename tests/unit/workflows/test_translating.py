from mmrun.workflows.translating import batches_of

LENGTHS = [3, 9, 3, 5, 9]


def test_long_rows_come_first_and_equal_ones_in_their_order() -> None:
    assert batches_of(LENGTHS, size=2) == [[1, 4], [3, 0], [2]]


def test_without_whole_batches_the_others_stay_as_they_were() -> None:
    assert batches_of(LENGTHS, size=2, done={1, 4}) == batches_of(LENGTHS, size=2)[1:]


def test_another_batch_size_goes_on_with_what_is_left() -> None:
    assert batches_of(LENGTHS, size=3, done={1, 4}) == [[3, 0, 2]]
