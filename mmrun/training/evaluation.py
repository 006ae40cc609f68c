"""An evaluation that a request to stop cuts short, and that the next attempt does anew."""

from collections.abc import Callable


class EvaluationStopped(Exception):  # noqa: N818 (a wish, not a fault)
    """Nothing of the evaluation is logged."""


class Evaluation:
    """The evaluation that is under way in a training.

    A scheduler gives a minute or so from the signal on, and an evaluation may take many.
    """

    def __init__(self, wished: Callable[[], bool]) -> None:
        """Prepare to be asked; ``wished`` tells in all processes alike whether to stop."""
        self._wished = wished
        self._may_stop = True

    def run(
        self, evaluate: Callable[[], dict[str, float]], *, to_the_end: bool
    ) -> dict[str, float]:
        """Return what ``evaluate`` does; one that no next attempt would do runs ``to_the_end``."""
        self._may_stop = not to_the_end
        return evaluate()

    def go_on_or_stop(self) -> None:
        """Raise ``EvaluationStopped``, between two batches, if that is wished."""
        if self._may_stop and self._wished():
            raise EvaluationStopped
