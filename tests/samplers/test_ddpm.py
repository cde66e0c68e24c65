"""DDPM: the posterior of its paper, whichever file it is computed in."""

import torch
from torch import Tensor

from cspipe.diffusion.process import add_noise
from cspipe.diffusion.schedule import Schedule
from cspipe.sampling.state import SamplerState, find_step


def test_step_is_the_posterior_of_ddpm(schedule: Schedule, x0: Tensor, e: Tensor) -> None:
    """Ho et al. (2020), eq. 6 and 7, with z = 0 for the mean and z = 1 for the standard deviation."""
    for step in (2, 30, 100):
        t = torch.full((8,), step)
        x_t = add_noise(x0, e, t, schedule)
        ab, ab_before = schedule.sqrt_alpha_bar[step] ** 2, schedule.sqrt_alpha_bar[step - 1] ** 2
        beta = 1 - ab / ab_before
        mean = ab_before.sqrt() * beta / (1 - ab) * x0 + (1 - beta).sqrt() * (1 - ab_before) / (1 - ab) * x_t
        std = (beta * (1 - ab_before) / (1 - ab)).sqrt()
        zero, one = torch.zeros_like(x0), torch.ones_like(x0)
        for z, expected in ((zero, mean), (one, mean + std)):
            state = SamplerState(schedule, [100, 0], 1.0, lambda z=z: z)
            assert torch.allclose(find_step("ddpm")(x_t, x0, t, t - 1, state), expected, atol=1e-9)
