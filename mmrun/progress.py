"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

_LINES = 10
"""Where there is no terminal, long work says so about this many times."""


def progress(items: Iterable[Item], *, total: int, label: str, unit: str = "it") -> Iterator[Item]:
    """Yield ``items`` and show on stderr how far the work is."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=label, unit=unit, leave=False)
        return
    every = max(total // _LINES, 1)
    for done, item in enumerate(items, start=1):
        yield item
        if total > _LINES and done % every == 0 and done < total:
            logger.info("%s: %d of %d %s", label, done, total, unit)
