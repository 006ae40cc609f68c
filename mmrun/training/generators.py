"""The states of the random generators that a training draws from."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorStates:
    """The states of Python's, NumPy's and torch's global generators."""

    python: Any
    numpy: Any
    cpu: torch.Tensor
    cuda: list[torch.Tensor]

    @classmethod
    def now(cls) -> Self:
        """Return them as they are."""
        return cls(
            python=random.getstate(),
            numpy=np.random.get_state(),
            cpu=torch.random.get_rng_state(),
            cuda=torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        )

    def restore(self) -> None:
        """Let the generators draw again what they drew from here on."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.random.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def generator_states_kept() -> Iterator[None]:
    """Leave the global generators as they were before the block."""
    before = GeneratorStates.now()
    try:
        yield
    finally:
        before.restore()


def start_generators(*parts: int) -> None:
    """Seed all of them by ``parts``; for a process that no checkpoint has states of."""
    seed = int(np.random.SeedSequence(parts).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # and those of accelerators
