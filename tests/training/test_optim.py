"""The step size over training, and the moving average."""

import pytest
import torch

from cspipe.training.optim import MovingAverage, rate_factor


def test_rate_rises_stays_and_falls_linearly() -> None:
    factors = [rate_factor(seen, 1000, 100, 0.4) for seen in (0, 49, 99, 500, 600, 800, 1000)]
    assert factors == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0])


def test_average_forgets_half_in_its_half_life() -> None:
    net = torch.nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        ema = MovingAverage(net, batch=8, half_life=80)
        net.weight.fill_(0.0)
        for _ in range(10):
            ema.update(list(net.parameters()))
    assert ema.net.weight.item() == pytest.approx(0.5, abs=1e-5)
