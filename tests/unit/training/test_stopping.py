"""From a signal to a wish, or to an end at once."""

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from mmrun.errors import StopRequested
from mmrun.tracking import orphan
from mmrun.training.stopping import SIGNALS, StopWish, TimeOver, limited

LONG_AGO_S = 60.0


@pytest.fixture
def wish() -> Iterator[StopWish]:
    wish = StopWish()
    with wish.listening():
        yield wish


@pytest.mark.parametrize("number", SIGNALS)
def test_while_training_a_signal_is_a_wish(wish: StopWish, number: signal.Signals) -> None:
    wish.training = True

    signal.raise_signal(number)

    assert wish.reason == number.name
    assert wish.by_keyboard == (number is signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_before_training_a_signal_ends_at_once(number: signal.Signals) -> None:
    wish = StopWish()
    with (
        pytest.raises(StopRequested, match="before a step was done") as caught,
        wish.listening(),
    ):
        signal.raise_signal(number)

    assert caught.value.by_keyboard == (number is signal.SIGINT)
    assert wish.reason is None


def test_no_library_takes_the_end_for_an_error_of_its_own() -> None:
    with pytest.raises(StopRequested), StopWish().listening():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception as error:
            raise RuntimeError("the store refused") from error


def test_a_wrapper_that_passes_ctrl_c_on_as_two_signals_means_one_wish(wish: StopWish) -> None:
    wish.training = True

    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)

    assert wish.reason == "SIGINT"


def test_the_same_signal_again_ends_at_once(wish: StopWish) -> None:
    wish.training = True
    signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_another_signal_later_ends_at_once(wish: StopWish) -> None:
    wish.training = True
    signal.raise_signal(signal.SIGINT)
    wish._heard_at -= LONG_AGO_S

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("first", [signal.SIGTERM, orphan.SIGNAL])
def test_the_end_of_a_wrapper_makes_no_hurry(wish: StopWish, first: signal.Signals) -> None:
    wish.training = True
    signal.raise_signal(first)
    reason = wish.reason
    wish._heard_at -= LONG_AGO_S

    signal.raise_signal(orphan.SIGNAL)

    assert reason is not None
    assert wish.reason == reason


def test_a_wish_of_another_kind_is_not_an_echo(wish: StopWish) -> None:
    wish.training = True
    wish.reason = "loss of the tracking server"

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_a_launcher_that_passes_on_what_was_sent_to_all_means_one_wish() -> None:
    wish = StopWish(echoed=True)
    with wish.listening():
        wish.training = True
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    assert wish.reason == "SIGTERM"


def test_what_another_process_was_told_counts_as_heard() -> None:
    wish = StopWish(echoed=True)
    with wish.listening():
        wish.training = True
        wish.agree("SIGTERM")
        signal.raise_signal(signal.SIGTERM)

    assert wish.reason == "SIGTERM"


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]

    with StopWish().listening():
        pass

    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_takes_too_long_is_ended_wherever_it_waits() -> None:
    with pytest.raises(TimeOver), limited(0.05):
        threading.Event().wait(LONG_AGO_S)


def test_a_limit_that_was_not_reached_rings_no_later() -> None:
    before = signal.getsignal(signal.SIGALRM)

    with limited(0.05):
        pass

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_second_signal_says_which_and_that_it_was_at_once() -> None:
    wish = StopWish()
    with pytest.raises(StopRequested, match="stopped at once by SIGUSR1"), wish.listening():
        wish.training = True
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize("number", SIGNALS)
def test_once_it_is_over_no_signal_ends_it_again(wish: StopWish, number: signal.Signals) -> None:
    wish.training = wish.over = True

    for _ in range(3):
        signal.raise_signal(number)

    assert wish.reason is None


def test_once_it_is_over_a_signal_limits_what_is_under_way(wish: StopWish) -> None:
    wish.over = True

    with pytest.raises(TimeOver), wish.hurrying(0.05):
        signal.raise_signal(signal.SIGTERM)
        threading.Event().wait(LONG_AGO_S)


def test_a_signal_limits_what_comes_after_it_as_well(wish: StopWish) -> None:
    wish.over = True
    signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TimeOver), wish.hurrying(0.05):
        threading.Event().wait(LONG_AGO_S)


def test_without_a_signal_nothing_hurries(wish: StopWish) -> None:
    wish.over = True

    with wish.hurrying(0.001):
        time.sleep(0.02)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_when_the_training_is_done_no_step_is_promised(
    wish: StopWish, capfd: pytest.CaptureFixture[str]
) -> None:
    wish.training = wish.done = True

    signal.raise_signal(signal.SIGINT)

    assert "warning: Ctrl-C: the training is done and is being sent" in capfd.readouterr().err
