"""Python's garbage collector, kept out of the way while libraries are imported.

torch, transformers and MLflow make more than a million objects, and all of them stay. The collector
counts new objects and looks through them again and again for what could go: a fifth of the time to
the first step.
"""

import gc

_USUAL = gc.get_threshold()
_RARELY = 100_000
"""How many new objects lie between two collections at the start; usual are some hundred."""


def collect_rarely() -> None:
    """Let the collector rest; for a process that is about to import."""
    gc.set_threshold(_RARELY)


def collect_as_usual() -> None:
    """Let it work again, on what is made from now on: what is there now is for good.

    Does nothing in a process that somebody else began, as a notebook.
    """
    if gc.get_threshold()[0] == _RARELY:
        gc.freeze()
        gc.set_threshold(*_USUAL)
