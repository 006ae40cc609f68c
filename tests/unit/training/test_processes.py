"""Orders from process 0, and errors from any of them, over a store in memory."""

import threading
from typing import Any

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from mmrun.errors import DataError, MmrunError, StopRequested, UsageError
from mmrun.training import processes
from mmrun.training.processes import Ended, Follower, Launched, LauncherGone, Leader

GONE = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> HashStore:
    monkeypatch.setattr(processes, "_FAREWELL_S", 0.0)  # nobody is there to read the end
    return HashStore()


@pytest.fixture
def leader(store: HashStore) -> Leader:
    return Leader(Launched(rank=0, size=3), store)


@pytest.fixture
def follower(store: HashStore) -> Follower:
    return Follower(Launched(rank=1, size=3), store)


ADDRESS = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def fail_at_once(follower: Follower, error: Exception) -> None:
    """Let a process fail while nobody answers it yet."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(processes, "_ANSWER_S", 0.0)
        follower.fail(error)


@pytest.mark.parametrize(
    ("environment", "launched"),
    [
        pytest.param({}, Launched(rank=0, size=1), id="no launcher"),
        pytest.param({"RANK": "1", "WORLD_SIZE": "2"}, Launched(rank=0, size=1), id="half of one"),
        pytest.param(
            {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", **ADDRESS},
            Launched(rank=3, size=4),
            id="torchrun on two machines",
        ),
    ],
)
def test_the_environment_says_which_process_this_is(
    environment: dict[str, str], launched: Launched
) -> None:
    assert Launched.of(environment) == launched


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        pytest.param({"LOCAL_RANK": "0"}, "RANK", id="left over"),
        pytest.param({"LOCAL_RANK": "0", "RANK": "0"}, "WORLD_SIZE", id="how many"),
        pytest.param({"LOCAL_RANK": "0", "RANK": "a", "WORLD_SIZE": "2"}, "RANK", id="no number"),
        pytest.param(
            {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"},
            "MASTER_ADDR",
            id="where",
        ),
    ],
)
def test_half_of_what_a_launcher_says_is_refused(environment: dict[str, str], missing: str) -> None:
    with pytest.raises(UsageError, match=f"but {missing} is"):
        Launched.of(environment)


def test_a_process_that_is_alone_needs_no_store() -> None:
    leader = Leader(Launched())

    leader.order("train", stay_stopped=False)
    leader.end(0)
    with pytest.raises(ValueError, match="broken"), leader.answering():
        raise ValueError("broken")


def test_orders_come_in_turn(leader: Leader, follower: Follower) -> None:
    leader.order("recipe", actors="out/setup")
    leader.order("train", stay_stopped=True)

    assert follower.next("recipe") == {"actors": "out/setup"}
    assert follower.next("train") == {"stay_stopped": True}


def test_every_process_gets_every_order(leader: Leader, store: HashStore) -> None:
    others = [Follower(Launched(rank=rank, size=3), store) for rank in (1, 2)]

    leader.order("train", stay_stopped=True)

    assert [other.next("train") for other in others] == [{"stay_stopped": True}] * 2


def test_an_order_that_is_not_the_next_one_is_a_bug(leader: Leader, follower: Follower) -> None:
    leader.order("train")

    with pytest.raises(RuntimeError, match="process 0 is at 'train', process 1 at 'recipe'"):
        follower.next("recipe")


def test_process_0_can_wait_until_an_order_is_taken(store: HashStore) -> None:
    leader, taken = Leader(Launched(rank=0, size=2), store), []
    follower = Follower(Launched(rank=1, size=2), store)
    later = threading.Timer(0.2, lambda: taken.append(follower.next("arguments")))
    later.start()

    leader.order("arguments", awaited=True, output_dir="out")

    later.join()
    assert taken == [{"output_dir": "out"}]


def test_process_0_waits_for_nobody_who_has_failed(store: HashStore) -> None:
    leader = Leader(Launched(rank=0, size=2), store)
    follower = Follower(Launched(rank=1, size=2), store)
    later = threading.Timer(0.2, fail_at_once, args=[follower, DataError("a.npy is missing")])
    later.start()

    with pytest.raises(DataError, match=r"a\.npy is missing"):
        leader.order("arguments", awaited=True)

    later.join()


def test_who_waits_for_an_order_hears_of_the_end(leader: Leader, follower: Follower) -> None:
    leader.end(3)

    with pytest.raises(Ended) as ended:
        follower.next("recipe")

    assert ended.value.code == 3


def test_an_order_is_waited_for(leader: Leader, follower: Follower) -> None:
    later = threading.Timer(0.1, leader.order, args=["train"])
    later.start()

    assert follower.next("train") == {}


def test_process_0_raises_what_went_wrong_in_another(leader: Leader, follower: Follower) -> None:
    fail_at_once(follower, DataError("a.npy is missing", hint="bring it back"))

    with pytest.raises(DataError, match=r"a\.npy is missing") as raised, leader.answering():
        raise RuntimeError(GONE)

    assert raised.value.hint == "bring it back"
    assert raised.value.said
    assert "in process 1:" in raised.value.__notes__[0]


def test_who_has_failed_gets_no_order(leader: Leader, follower: Follower) -> None:
    fail_at_once(follower, StopRequested("stopped by SIGTERM", by_keyboard=False))

    with pytest.raises(StopRequested, match="stopped by SIGTERM"):
        leader.order("train")


def test_who_has_an_error_of_its_own_says_it(leader: Leader, follower: Follower) -> None:
    leader.end(4)

    with pytest.raises(DataError, match=r"a\.npy is missing") as raised:
        follower.fail(DataError("a.npy is missing"))

    assert not raised.value.said


def test_who_has_lost_another_process_ends_like_process_0(
    leader: Leader, follower: Follower
) -> None:
    leader.end(4)

    assert follower.fail(RuntimeError(GONE)) == 4


def test_an_answer_is_waited_for_until_the_end(
    leader: Leader, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_ANSWER_S", 0.05)
    with pytest.raises(MmrunError), leader.answering():
        raise RuntimeError(GONE)
    later = threading.Timer(0.2, leader.end, args=[1])
    later.start()

    assert follower.fail(RuntimeError(GONE)) == 1


def test_without_process_0_one_of_the_others_speaks(
    store: HashStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_ANSWER_S", 0.0)
    first, second = (Follower(Launched(rank=rank, size=3), store) for rank in (1, 2))

    with pytest.raises(MmrunError, match="another process of this training is gone"):
        first.fail(RuntimeError(GONE))

    assert second.fail(RuntimeError(GONE)) == 1


def test_a_bug_in_another_process_names_it(leader: Leader, follower: Follower) -> None:
    fail_at_once(follower, KeyError("x"))

    with pytest.raises(MmrunError, match="KeyError: 'x' in process 1"), leader.answering():
        raise RuntimeError(GONE)


class _Gone:
    """The store of a launcher that is gone."""

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> None:
            raise RuntimeError("sendBytes failed on SocketImpl: Broken pipe")

        return call


def test_without_the_launcher_an_error_of_process_0_stays_what_it_is() -> None:
    leader = Leader(Launched(rank=0, size=2), _Gone())

    with pytest.raises(StopRequested, match="stopped by a test"), leader.answering():
        raise StopRequested("stopped by a test")
    leader.end(75)


def test_without_the_launcher_the_others_cannot_know_the_end() -> None:
    follower = Follower(Launched(rank=1, size=2), _Gone())

    with pytest.raises(LauncherGone):
        follower.end()


def test_an_error_of_process_0_stays_what_it_is(leader: Leader) -> None:
    with pytest.raises(ZeroDivisionError), leader.answering():
        raise ZeroDivisionError
