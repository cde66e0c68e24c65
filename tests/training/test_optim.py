"""The step size over training, and the moving average."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cspipe.training.optim import MovingAverage, adamw, all_finite, rate_factor


def test_rate_rises_stays_and_falls_linearly() -> None:
    factors = [rate_factor(seen, 1000, 100, 0.4) for seen in (0, 49, 99, 500, 600, 800, 1000)]
    assert factors == pytest.approx([0.01, 0.5, 1, 1, 1, 0.5, 0])


def test_rate_stays_without_warmup_and_cooldown() -> None:
    assert [rate_factor(seen, 1000, 0, 0.0) for seen in (0, 500, 999)] == [1, 1, 1]


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0, 1))
def test_rate_is_a_fraction(seen: int, images: int, warmup: int, cooldown: float) -> None:
    assert 0 <= rate_factor(min(seen, images), images, warmup, cooldown) <= 1


def test_average_forgets_half_in_its_half_life() -> None:
    net = torch.nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        ema = MovingAverage(net, batch=8, half_life=80)
        net.weight.fill_(0.0)
        for _ in range(10):
            ema.update(net)
    assert ema.net.weight.item() == pytest.approx(0.5, abs=1e-5)


def test_optimizer_is_fused_and_moves_at_the_given_rate() -> None:
    net = torch.nn.Linear(4, 1)
    optimizer = adamw(net, 0.25)
    before = net.weight.detach().clone()
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["fused"]
    assert torch.allclose(before - net.weight, torch.full((1, 4), 0.25))


def test_one_bad_number_is_found() -> None:
    assert all_finite([torch.ones(3), torch.zeros(2, 2)])
    assert not all_finite([torch.ones(3), torch.tensor([1.0, float("inf")])])
    assert not all_finite([torch.tensor(float("nan"))])
