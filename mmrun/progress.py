"""Progress of long work: a bar on a terminal, plain lines otherwise."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

_EVERY_S = 5.0
"""Where there is no terminal, a line says so this often; short work says nothing."""


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


def hide_library_bars() -> None:
    """Keep the bars of transformers and datasets for work of milliseconds off the screen."""
    import datasets
    from transformers.utils import logging as transformers_logging

    datasets.disable_progress_bars()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
