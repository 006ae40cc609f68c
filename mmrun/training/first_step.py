"""The first step of an attempt: from then on it trains."""

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState


class FirstStep(TrainerCallback):
    """Says once that a step was done."""

    def __init__(self, done: Callable[[int], None]) -> None:
        """Prepare to call ``done`` with the number of the step."""
        self._done: Callable[[int], None] | None = done

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say so at the first, and nothing at the others."""
        done, self._done = self._done, None
        if done is not None:
            done(state.global_step)
