"""Random generators that nobody disturbs."""

import random

import numpy as np
import pytest
import torch

from mmrun.training.generators import generator_states_kept


def draw() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_what_is_drawn_inside_is_not_seen_outside() -> None:
    with generator_states_kept():
        first = draw()

    assert draw() == first


def test_the_states_come_back_after_an_error_too() -> None:
    with generator_states_kept():
        first = draw()
    with pytest.raises(ValueError, match="broken"), generator_states_kept():
        draw()
        raise ValueError("broken")

    with generator_states_kept():
        assert draw() == first
