"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

_EVERY_S = 5.0
"""Where there is no terminal, a line says so this often; short work says nothing."""
_LOOK_S = 0.2
_MB = 1e6


def progress(items: Iterable[Item], *, total: int, label: str, unit: str = "it") -> Iterator[Item]:
    """Yield ``items`` and show on stderr how far the work is."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, leave=False)
        return
    said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - said >= _EVERY_S and done < total:
            said = time.monotonic()
            logger.info("%s: %d of %d %s", label, done, total, unit)


def follow(
    work: Sequence[Future[Any]], *, amount: Callable[[], int], total: int, label: str
) -> None:
    """Wait for ``work`` and show on stderr how many bytes of ``total`` are done."""
    follow_until(
        lambda s: not wait(work, timeout=s).not_done, amount=amount, total=total, label=label
    )


def follow_until(
    done: Callable[[float], bool], *, amount: Callable[[], int], total: int, label: str
) -> None:
    """Show how many bytes are done until ``done``, given some seconds to wait, says that all is."""
    if not sys.stderr.isatty():
        said = time.monotonic()
        while not done(_LOOK_S):
            if time.monotonic() - said >= _EVERY_S:
                said = time.monotonic()
                logger.info("%s: %.0f of %.0f MB", label, amount() / _MB, total / _MB)
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit="B", unit_scale=True, leave=False) as bar:
        while not done(_LOOK_S):
            bar.update(min(amount(), total) - bar.n)


def hide_library_bars() -> None:
    """Keep the bars of transformers and datasets for work of milliseconds off the screen."""
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
