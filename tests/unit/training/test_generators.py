"""Random generators that nobody disturbs."""

import random

import numpy as np
import pytest
import torch

from mmrun.training.generators import generator_states_kept, start_generators
from tests.devices import DEVICES


def draw(device: str = "cpu") -> tuple[float, float, float, float]:
    on_device = torch.rand(1, device=device).item()
    return random.random(), np.random.rand(), torch.rand(1).item(), on_device


@pytest.mark.parametrize("device", DEVICES)
def test_what_is_drawn_inside_is_not_seen_outside(device: str) -> None:
    with generator_states_kept():
        first = draw(device)

    assert draw(device) == first


@pytest.mark.parametrize("device", DEVICES)
def test_a_process_without_states_draws_what_its_parts_say(device: str) -> None:
    with generator_states_kept():
        start_generators(7, 100, 1)
        first = draw(device)
        start_generators(7, 100, 1)
        again = draw(device)
        start_generators(7, 100, 2)
        other = draw(device)

    assert again == first
    assert all(value != before for value, before in zip(other, first, strict=True))


def test_the_states_come_back_after_an_error_too() -> None:
    with generator_states_kept():
        first = draw()
    with pytest.raises(ValueError, match="broken"), generator_states_kept():
        draw()
        raise ValueError("broken")

    with generator_states_kept():
        assert draw() == first
