"""Predictions: each inverts to the clean image, and agrees with an independent implementation."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from cspipe.diffusion.process import add_noise, clean_estimate, eps_from_x0, net_input, per_image, training_target
from cspipe.diffusion.schedule import Schedule, linear_schedule

STEPS = torch.tensor([1, 2, 5, 20, 50, 80, 99, 100])


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm"])
def test_estimate_inverts_target(prediction: str, schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    for step in (1, 2, 50, 100):
        t = torch.full((8,), step)
        x_t = add_noise(x0, e, t, schedule)
        target = training_target(prediction, x0, e, t, schedule)
        assert torch.allclose(clean_estimate(prediction, target, x_t, t, schedule), x0, atol=1e-9)
        assert torch.allclose(eps_from_x0(x_t, x0, t, schedule), e, atol=1e-9)


def test_estimate_is_clipped(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    t = torch.full((8,), 60)
    assert clean_estimate("x0", x0 * 5, e, t, schedule).abs().max() == 1


def test_forward_process_and_v_equal_diffusers(x0: Tensor, e: Tensor) -> None:
    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02)
    ours, t = linear_schedule(1000), torch.tensor([1, 2, 10, 100, 500, 900, 999, 1000])
    x_t = theirs.add_noise(x0, e, t - 1)
    assert torch.allclose(add_noise(x0, e, t, ours), x_t, atol=1e-5)
    assert torch.allclose(training_target("v", x0, e, t, ours), theirs.get_velocity(x0, e, t - 1), atol=1e-5)


def test_edm_is_table_1_of_its_paper(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """c_skip, c_out and c_in in x_ve and sigma, against what is formed in x_t; the loss weighs x0 by 1/c_out^2."""
    sigma = per_image(schedule.sqrt_one_minus_alpha_bar[STEPS] / schedule.sqrt_alpha_bar[STEPS])
    c_skip = 0.5**2 / (sigma**2 + 0.5**2)
    c_out, c_in = sigma * 0.5 / (sigma**2 + 0.5**2).sqrt(), 1 / (sigma**2 + 0.5**2).sqrt()
    x_ve, x_t = x0 + sigma * e, add_noise(x0, e, STEPS, schedule)
    target = training_target("edm", x0, e, STEPS, schedule)
    assert torch.allclose(net_input("edm", x_t, STEPS, schedule), c_in * x_ve)
    assert torch.allclose(target, (x0 - c_skip * x_ve) / c_out, atol=1e-6)
    small = 0.01 * torch.tanh(x_ve)
    x0_hat = clean_estimate("edm", small, 0.1 * x_t, STEPS, schedule)
    assert torch.allclose(x0_hat, (c_skip * 0.1 * x_ve + c_out * small).clamp(-1, 1))
    error = c_skip * x_ve + c_out * (target + small) - x0
    assert torch.allclose(small**2, error**2 / c_out**2)
