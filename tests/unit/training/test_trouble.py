"""What libraries say of a failure, in words that help."""

import pytest
import torch

from mmrun.training.trouble import explained, in_one_line

IN_WORKER = """Caught {kind} in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 1, in fetch
{kind}: {text}
"""


def raised(error: Exception, *, cause: Exception | None = None) -> Exception:
    with pytest.raises(type(error)) as caught:
        raise error from cause
    return caught.value


@pytest.mark.parametrize(
    ("signal", "said", "hint"),
    [
        pytest.param("Killed", "the machine is out of memory", "fewer --dataloader_num_workers"),
        pytest.param("Bus error", "shared memory", "--shm-size"),
        pytest.param("Segmentation fault", "died: Segmentation fault", "--dataloader_num_workers"),
    ],
)
def test_a_worker_that_died_is_told_in_words(signal: str, said: str, hint: str) -> None:
    told_by_torch = RuntimeError(f"DataLoader worker (pid 7) is killed by signal: {signal}. ")

    known = explained(raised(RuntimeError("exited unexpectedly"), cause=told_by_torch))

    assert known is not None
    assert said in str(known)
    assert hint in known.hint


def test_a_worker_without_memory_is_no_riddle() -> None:
    known = explained(MemoryError(IN_WORKER.format(kind="MemoryError", text="")))

    assert str(known) == "a data loader worker is out of memory"


def test_without_memory_on_the_accelerator_smaller_batches_are_advised() -> None:
    known = explained(raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nx")))

    assert known is not None
    assert str(known) == "OutOfMemoryError: CUDA out of memory. Tried to allocate"
    assert known.hint == (
        "a smaller --per_device_train_batch_size with more --gradient_accumulation_steps"
    )


def test_in_an_evaluation_its_own_batch_size_is_the_one() -> None:
    def evaluation_loop() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError) as caught:
        evaluation_loop()

    known = explained(caught.value)
    assert known is not None
    assert known.hint == "a smaller --per_device_eval_batch_size"


def test_of_what_nobody_knows_nothing_is_guessed() -> None:
    assert explained(raised(ValueError("boom"))) is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        pytest.param(ValueError("one\ntwo"), "ValueError: one", id="several lines"),
        pytest.param(ValueError(), "ValueError", id="no words"),
        pytest.param(
            ValueError(IN_WORKER.format(kind="ValueError", text="boom")),
            "ValueError: boom (in a data loader worker)",
            id="in a worker",
        ),
    ],
)
def test_an_error_fits_on_a_line(error: Exception, line: str) -> None:
    assert in_one_line(error) == line
