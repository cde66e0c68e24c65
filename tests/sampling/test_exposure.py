"""Exposure bias: none where the estimate is right, and of the right sign where it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.process import add_noise, per_image
from cspipe.diffusion.schedule import SCHEDULES, Schedule
from cspipe.sampling.exposure import exposure_rows, pixel_variance
from cspipe.sampling.repaint import resampled
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


def test_oracle_walks_through_the_forward_process(schedule: Schedule) -> None:
    """With x0 known the states are those of the forward process, for any steps."""
    x0, e = CLEAN**0.5 * images(1), images(3)
    x_T = add_noise(x0, e, torch.full((COUNT,), 100), schedule)
    _, sampled, forward = rows("ddim", 7, x_T, lambda x, t: x0, schedule).T
    assert torch.allclose(sampled, forward, rtol=0.02)


@pytest.mark.parametrize(("factor", "sign"), [(0.9, -1), (1.1, 1)])
def test_estimates_of_the_wrong_size_are_seen(factor: float, sign: int, schedule: Schedule) -> None:
    _, sampled, forward = rows("ddim", 100, images(0), gaussian(schedule, factor), schedule).T
    assert float((sampled - forward)[-1]) * sign > 0.1 * CLEAN


def test_variance_is_that_of_an_images_own_pixels(x0: Tensor) -> None:
    """Neither that between images nor that of their means counts."""
    expected = sum(float(image.var()) for image in x0)
    assert float(pixel_variance(x0)) == pytest.approx(expected)
    assert float(pixel_variance(x0 + torch.arange(8).reshape(-1, 1, 1, 1))) == pytest.approx(expected)


def test_every_state_of_a_walk_is_measured(schedule: Schedule, e: Tensor) -> None:
    """After correction; those that go back up are among them."""
    seen = [e]

    def keep(x_s: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor) -> Tensor:
        seen.append(x_s + 0.1 * e)
        return seen[-1]

    state = SamplerState(schedule, [100, 50, 0])
    sample(lambda x, t: torch.tanh(x), e, find_step("ddim"), state, keep)
    assert [float(v) for v in state.variances] == [float(pixel_variance(x)) for x in seen]
    rising = SamplerState(schedule, resampled([100, 50, 0], 2), noise=lambda: e)
    sample(lambda x, t: torch.tanh(x), e, find_step("ddim"), rising)
    assert len(rising.variances) == len(rising.timesteps) == 7
