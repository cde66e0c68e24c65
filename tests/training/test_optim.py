"""The step size over training; tests/gpu has the moving average."""

import pytest

from cspipe.training.optim import rate_factor


def test_rate_rises_stays_and_falls_linearly() -> None:
    factors = [rate_factor(seen, 1000, 100, 0.4) for seen in (0, 49, 99, 500, 600, 800, 1000)]
    assert factors == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0])
