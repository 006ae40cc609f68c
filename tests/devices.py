"""Where a test about numbers runs: on the CPU always, on an accelerator when that is asked for."""

import pytest

DEVICES = [pytest.param("cpu", id="cpu"), pytest.param("cuda", id="gpu", marks=pytest.mark.gpu)]
