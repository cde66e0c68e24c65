"""Exposure bias: none where the estimate is right."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.process import per_image
from cspipe.diffusion.schedule import SCHEDULES, Schedule
from cspipe.sampling.exposure import exposure_rows
from cspipe.sampling.reverse import sample
from cspipe.sampling.state import SamplerState, find_step

COUNT, CLEAN = 1000, 0.09
"""Images, of 8 x 8 normal pixels with mean 0 and this variance."""


def images(seed: int) -> Tensor:
    return torch.randn(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(schedule: Schedule, factor: float = 1.0) -> Callable[[Tensor, Tensor], Tensor]:
    """`factor` times E[x0 | x_t]."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        signal, noise = per_image(schedule.sqrt_alpha_bar[t]), per_image(schedule.sqrt_one_minus_alpha_bar[t])
        return factor * signal * CLEAN / (signal**2 * CLEAN + noise**2) * x

    return denoise


def rows(name: str, steps: int, x_T: Tensor, denoise: Callable[[Tensor, Tensor], Tensor], schedule: Schedule) -> Tensor:
    """(t, sampled, forward) of a state, (steps + 1, 3)."""
    state = SamplerState(schedule, evenly_spaced(schedule.steps, steps))
    sample(denoise, x_T, find_step(name), state)
    sampled = torch.stack(state.variances).numpy() / COUNT
    return torch.tensor([list(row.values()) for row in exposure_rows(state.timesteps, sampled, CLEAN, schedule)])


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
@pytest.mark.parametrize("name", ["ddim", "heun", "dpm_solver"])
def test_best_denoiser_of_a_gaussian_has_none(name: str, kind: str) -> None:
    """But for the error of finite steps and of finitely many images."""
    schedule = SCHEDULES[kind](400)
    x_T = images(0)
    t, sampled, forward = rows(name, 400, x_T, gaussian(schedule), schedule).T
    assert t.tolist() == list(range(400, -1, -1))
    assert torch.allclose(sampled, forward, rtol=0.03)
    assert float(forward[-1]) == pytest.approx(CLEAN)
