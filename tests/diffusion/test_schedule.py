"""Schedules: properties for any T, published values."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from cspipe.diffusion.schedule import SCHEDULES, Schedule, cosine_schedule, karras_schedule, linear_schedule

anything = given(name=st.sampled_from(sorted(SCHEDULES)), steps=st.integers(2, 2000))


@anything
def test_schedule_runs_from_image_to_noise(name: str, steps: int) -> None:
    schedule = SCHEDULES[name](steps)
    alpha_bar = schedule.sqrt_alpha_bar**2
    assert schedule.steps == steps
    assert alpha_bar[0] == 1
    assert (alpha_bar.diff() < 0).all()
    assert torch.allclose(alpha_bar + schedule.sqrt_one_minus_alpha_bar**2, torch.ones_like(alpha_bar))
    assert alpha_bar[-1] < 1e-3


def test_linear_at_1000_steps_is_ddpm() -> None:
    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02).alphas_cumprod
    assert np.allclose(linear_schedule(1000).sqrt_alpha_bar[1:] ** 2, theirs, atol=1e-6)


@pytest.mark.parametrize("steps", [100, 1000])
def test_cosine_is_the_published_one(steps: int) -> None:
    theirs = DDPMScheduler(steps, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert np.allclose(cosine_schedule(steps).sqrt_alpha_bar[1:] ** 2, theirs, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 18, 100, 1000])
def test_karras_is_the_published_one(steps: int) -> None:
    """Karras et al. (2022), eq. 5: sigma_i for i = 0..N-1, with i = T - t."""
    schedule = karras_schedule(steps)
    sigma = [(80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(steps)]
    ours = (schedule.sqrt_one_minus_alpha_bar / schedule.sqrt_alpha_bar)[1:].flip(0)
    assert np.allclose(ours, sigma, rtol=1e-9)
    assert schedule.sqrt_alpha_bar[-1] ** 2 == pytest.approx(1 / 6401)


@anything
def test_kappa_is_that_of_eulers_step_in_sigma(name: str, steps: int) -> None:
    """kappa(t, s) / sqrt(ab_s) = 1 - sigma_s / sigma_t."""
    schedule = SCHEDULES[name](steps)
    sigma = schedule.sqrt_one_minus_alpha_bar / schedule.sqrt_alpha_bar
    t = torch.arange(1, steps + 1)
    for s in (torch.zeros_like(t), t // 2, t - 1):
        assert torch.allclose(schedule.kappa(t, s) / schedule.sqrt_alpha_bar[s], 1 - sigma[s] / sigma[t])


def test_float32_keeps_the_small_noise_of_the_first_step() -> None:
    """sqrt(1 - ab_1) formed in float32 would be off by 1e-3; the cast comes last."""
    exact = linear_schedule(1000)
    assert math.isclose(
        exact.to(torch.device("cpu")).sqrt_one_minus_alpha_bar[1], exact.sqrt_one_minus_alpha_bar[1], rel_tol=1e-6
    )
    assert isinstance(exact, Schedule)
