"""Predictions: each inverts to the clean image, and agrees with an independent implementation."""

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from cspipe.diffusion.process import clean_estimate, diffuse, noise_in, training_target
from cspipe.diffusion.schedule import Schedule, linear_schedule


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_estimate_inverts_target(prediction: str, schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    for step in (1, 2, 50, 100):
        t = torch.full((8,), step)
        x_t = diffuse(x0, e, t, schedule)
        target = training_target(prediction, x0, e, t, schedule)
        assert torch.allclose(clean_estimate(prediction, target, x_t, t, schedule), x0, atol=1e-9)
        assert torch.allclose(noise_in(x_t, x0, t, schedule), e, atol=1e-9)


def test_estimate_is_clipped(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    t = torch.full((8,), 60)
    assert clean_estimate("x0", x0 * 5, e, t, schedule).abs().max() == 1


def test_forward_process_and_v_equal_diffusers(x0: Tensor, e: Tensor) -> None:
    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02)
    ours, t = linear_schedule(1000), torch.tensor([1, 2, 10, 100, 500, 900, 999, 1000])
    x_t = theirs.add_noise(x0, e, t - 1)
    assert torch.allclose(diffuse(x0, e, t, ours), x_t, atol=1e-5)
    assert torch.allclose(training_target("v", x0, e, t, ours), theirs.get_velocity(x0, e, t - 1), atol=1e-5)


def test_forward_process_has_the_marginal_of_its_definition(schedule: Schedule) -> None:
    generator = torch.Generator().manual_seed(3)
    t = torch.full((20_000,), 40)
    e = torch.randn(20_000, 1, 1, 1, generator=generator, dtype=torch.float64)
    x_t = diffuse(torch.full_like(e, 0.5), e, t, schedule)
    assert x_t.mean().item() == pytest.approx(0.5 * schedule.signal[40].item(), abs=0.03)
    assert x_t.std().item() == pytest.approx(schedule.noise[40].item(), rel=0.03)
