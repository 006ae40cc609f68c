"""What the processes of one training tell each other, where a launcher started several.

Process 0 decides everything and does all that the world can see; the others wait for its orders,
and compute. Orders go through the store that the launcher gives to all of them, not through
collective calls: a setup may take an hour, and a process in a collective call hears no signal and
gives up after half an hour.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from typing import Any, Protocol

from mmrun.errors import UsageError
from mmrun.training.trouble import Trouble

_ORDERS, _TROUBLE, _HEARD, _END, _LEFT = "orders", "trouble", "heard", "end", "left"
_NUMBERS = ("RANK", "WORLD_SIZE", "MASTER_PORT")
_LAUNCH = (*_NUMBERS, "MASTER_ADDR")
"""What a launcher says to every process, beside LOCAL_RANK."""
_CONNECT_S = 300.0
_ANSWER_S = 5.0
"""How long process 0 may take to hear that another one has failed."""
_FAREWELL_S = 2.0
_LOOK_S = 0.05


class Store(Protocol):
    """What is used of torch's stores."""

    def add(self, key: str, amount: int, /) -> int:
        """Count up and return the new number."""
        ...

    def set(self, key: str, value: str, /) -> None:
        """Store a value."""
        ...

    def get(self, key: str, /) -> bytes:
        """Return a value."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Tell whether every key is there."""
        ...

    def compare_set(self, key: str, expected: str, wanted: str, /) -> bytes:
        """Store a value; where there is one that is not ``expected``, return that."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """Which of how many processes this is."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Launched":
        """Return what `torchrun` says; one process where nothing says it.

        Raises:
            UsageError: a part of what it says is missing, or is no number.
        """
        if "LOCAL_RANK" not in environment:  # without it the Trainer takes itself for alone, too
            return cls()
        for name in _LAUNCH:
            value = environment.get(name, "")
            if not value or (name in _NUMBERS and not value.isdigit()):
                raise UsageError(
                    f"LOCAL_RANK is set, so torchrun started this, but {name} is {value!r}",
                    hint=f"start it with torchrun, set {', '.join(_LAUNCH)}, or unset LOCAL_RANK",
                )
        return cls(rank=int(environment["RANK"]), size=int(environment["WORLD_SIZE"]))

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1


@cache
def _connected(launched: Launched) -> Store:
    """Return the store of this launch; one connection serves the whole process."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    wait = timedelta(seconds=_CONNECT_S)
    found = rendezvous("env://", launched.rank, launched.size, timeout=wait)
    store: Store = PrefixStore("mmrun", next(iter(found))[0])
    return store


class Leader:
    """Process 0, which gives the orders; where it is alone it tells nobody anything."""

    def __init__(self, launched: Launched, store: Store | None = None) -> None:
        self.several = launched.several
        """Whether there are others to be told."""
        self._launched = launched
        self._others = launched.size - 1
        self._given = store

    @classmethod
    def of_this_launch(cls) -> "Leader":
        """Return the leader of the processes that the environment tells of."""
        return cls(Launched.of(os.environ))

    @cached_property
    def _store(self) -> Store:
        return _connected(self._launched) if self._given is None else self._given

    def order(self, what: str, *, awaited: bool = False, **content: Any) -> None:
        """Tell the others what comes next; where it is ``awaited``, until they have taken it.

        Raises:
            MmrunError: one of them has failed meanwhile.
        """
        if not self.several:
            return
        self._check()
        key = f"{_ORDERS}/{self._store.add(_ORDERS, 1)}"
        self._store.set(key, json.dumps({"what": what, **content}))
        while awaited and self._store.add(f"{key}/taken", 0) < self._others:
            time.sleep(_LOOK_S)
            self._check()

    def _check(self) -> None:
        if self._store.check([_TROUBLE]):
            raise Trouble.from_json(self._store.get(_TROUBLE)).error(elsewhere=True)

    def end(self, code: int) -> None:
        """Tell the others that all is over, and with which exit code.

        Where no launcher keeps the store, it ends with this process: they must have read it.
        """
        if self.several:
            with suppress(RuntimeError):  # the launcher may be gone, and its store with it
                self._store.set(_END, str(code))
                until = time.monotonic() + _FAREWELL_S
                while self._store.add(_LEFT, 0) < self._others and time.monotonic() < until:
                    time.sleep(_LOOK_S)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raise, instead of what fails here, the error of another process that it follows from."""
        try:
            yield
        except Exception as error:
            if not self.several:
                raise
            own = first = Trouble.of(error, rank=0)
            with suppress(RuntimeError):  # the launcher may be gone, and its store with it
                first = _told_first(self._store, own)
                self._store.set(_HEARD, "")
            if first.rank == own.rank and not own.lost:
                raise
            raise first.error(elsewhere=True) from error


class Ended(Exception):  # noqa: N818 (nothing went wrong in this process)
    """Process 0 says that all is over."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class LauncherGone(RuntimeError):  # noqa: N818 (as above)
    """The training is over, and process 0 cannot say any more how it ended."""


class Follower:
    """Any other process: it gets the orders, one after the other."""

    def __init__(self, launched: Launched, store: Store | None = None) -> None:
        self._rank = launched.rank
        self._store = _connected(launched) if store is None else store
        self._orders = 0

    def next(self, what: str) -> Mapping[str, Any]:
        """Wait for the order ``what``, and return its content.

        Raises:
            Ended: process 0 is done, or has failed.
        """
        self._orders += 1
        key = f"{_ORDERS}/{self._orders}"
        if self._wait(key, _END) == _END:
            raise Ended(self.end())
        self._store.add(f"{key}/taken", 1)
        content: dict[str, Any] = json.loads(self._store.get(key))
        if (told := content.pop("what")) != what:
            raise RuntimeError(f"process 0 is at {told!r}, process {self._rank} at {what!r}")
        return content

    def end(self) -> int:
        """Wait until process 0 is done, however long that takes, and return its exit code."""
        try:
            self._wait(_END)
            code = int(self._store.get(_END))
            self._store.add(_LEFT, 1)
        except RuntimeError as error:
            raise LauncherGone from error
        return code

    def fail(self, error: BaseException) -> int:
        """Tell process 0 what went wrong here, and return the exit code.

        Raises:
            Exception: ``error``, or what it means; it is for this process to say it.
        """
        own = Trouble.of(error, rank=self._rank)
        try:
            first = _told_first(self._store, own)
            if first.rank == self._rank and not own.common:
                self._store.add(_LEFT, 1)
            elif self._wait(_HEARD, _END, patience_s=_ANSWER_S) is not None:
                return self.end()
        except RuntimeError:  # the launcher is gone, and its store with it
            first = own
        if first.rank != self._rank:
            return first.exit_code
        if own.common:
            raise own.error() from error
        raise error

    def _wait(self, *keys: str, patience_s: float | None = None) -> str | None:
        """Wait for one of ``keys`` and return it, or None when patience is at its end."""
        begun = time.monotonic()
        while patience_s is None or time.monotonic() - begun < patience_s:
            for key in keys:
                if self._store.check([key]):
                    return key
            time.sleep(_LOOK_S)
        return None


def _told_first(store: Store, own: Trouble) -> Trouble:
    """Say what went wrong here, unless another process did before; return what was said first."""
    return Trouble.from_json(store.compare_set(_TROUBLE, "", own.to_json()))
