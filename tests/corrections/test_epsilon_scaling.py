"""Epsilon scaling against its formula, and against the plain state where it divides by 1."""

import pytest
import torch
from torch import Tensor

from cspipe.corrections.epsilon_scaling import Settings
from cspipe.diffusion.ddim import ddim_step, evenly_spaced
from cspipe.diffusion.process import Denoiser, add_noise, eps_from_x0
from cspipe.diffusion.schedule import Schedule
from cspipe.samplers.ddim import step
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState


def scaled(denoise: Denoiser, schedule: Schedule, base: float, slope: float = 0.0) -> Denoiser:
    asked, hook = Settings(name="epsilon_scaling", base=base, slope=slope).build(denoise, schedule, None)
    assert hook is None
    return asked


def curve(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(2 * x + t.reshape(-1, 1, 1, 1) / 50) * 0.8


@pytest.mark.parametrize(("base", "slope"), [(1.005, 0.0), (1.1, 0.0), (0.99, 0.001), (1.0, 0.0005)])
def test_step_is_ddims_with_the_noise_divided(base: float, slope: float, schedule: Schedule, x0: Tensor) -> None:
    """x_s = sqrt(ab_s) (x_t - sqrt(1-ab_t) e') / sqrt(ab_t) + sqrt(1-ab_s) e', e' = eps_hat / (slope t + base)."""
    t, s = torch.tensor([1, 2, 10, 20, 30, 40, 50, 60]), torch.tensor([0, 1, 7, 10, 29, 20, 45, 50])
    x_t, x0_hat = add_noise(x0 / 4, torch.ones_like(x0), t, schedule), x0 / 4
    asked = scaled(lambda x, t: x0_hat, schedule, base, slope)
    divisor = slope * t.double() + base
    signal_t, noise_t, signal_s, noise_s, divisor = (
        values.reshape(-1, 1, 1, 1)
        for values in (
            schedule.sqrt_alpha_bar[t],
            schedule.sqrt_one_minus_alpha_bar[t],
            schedule.sqrt_alpha_bar[s],
            schedule.sqrt_one_minus_alpha_bar[s],
            divisor,
        )
    )
    e = (x_t - signal_t * x0_hat) / noise_t / divisor
    expected = signal_s * (x_t - noise_t * e) / signal_t + noise_s * e
    assert torch.allclose(ddim_step(x_t, asked(x_t, t), t, s, schedule), expected, atol=1e-9)
    assert torch.allclose(eps_from_x0(x_t, asked(x_t, t), t, schedule), e, atol=1e-9)


def test_estimate_stays_in_range_where_there_is_hardly_any_signal(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """At t = T a thousandth of the noise is more than the whole image."""
    t = torch.full((8,), 100)
    asked = scaled(lambda x, t: x0, schedule, 1.1)(e, t)
    assert asked.abs().max() == 1
    unclipped = x0 + schedule.sqrt_one_minus_alpha_bar[100] / schedule.sqrt_alpha_bar[100] * eps_from_x0(
        e, x0, t, schedule
    ) * (1 - 1 / 1.1)
    assert torch.allclose(asked, unclipped.clamp(-1, 1), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dividing_by_one_changes_no_bit(schedule: Schedule, e: Tensor, dtype: torch.dtype) -> None:
    single, steps = (
        Schedule(schedule.sqrt_alpha_bar.to(dtype), schedule.sqrt_one_minus_alpha_bar.to(dtype)),
        evenly_spaced(100, 20),
    )
    plain = sample(curve, e.to(dtype), step, SamplerState(single, steps))
    assert torch.equal(plain, sample(scaled(curve, single, 1.0), e.to(dtype), step, SamplerState(single, steps)))
    assert not torch.equal(plain, sample(scaled(curve, single, 1.005), e.to(dtype), step, SamplerState(single, steps)))
