"""DDIM (Song et al. 2021): the reverse step that samplers and training methods build on, and a plain sampling loop."""

from __future__ import annotations

import torch
from torch import Tensor

from cspipe.diffusion.process import Denoiser, eps_from_x0, per_image
from cspipe.diffusion.schedule import Schedule


def ddim_step(
    x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, schedule: Schedule, eta: float = 0.0, z: Tensor | None = None
) -> Tensor:
    """Return x_s = sqrt(ab_s) x0_hat + sqrt(1 - ab_s - sigma^2) eps_hat + sigma z (Song et al. 2021, eq. 12), s < t.

    sigma = eta sqrt((1 - ab_s)/(1 - ab_t)) sqrt(1 - ab_t/ab_s); only eta > 0 needs z. Images (N, C, H, W), steps (N,).
    """
    signal_s, noise_s = schedule.sqrt_alpha_bar[s], schedule.sqrt_one_minus_alpha_bar[s]
    eps_hat = eps_from_x0(x_t, x0_hat, t, schedule)
    if eta == 0 or z is None:
        return per_image(signal_s) * x0_hat + per_image(noise_s) * eps_hat
    ratio = noise_s / schedule.sqrt_one_minus_alpha_bar[t]
    sigma = eta * ratio * (1 - (schedule.sqrt_alpha_bar[t] / signal_s) ** 2).sqrt()
    direction = (noise_s**2 - sigma**2).clamp(min=0).sqrt()
    return per_image(signal_s) * x0_hat + per_image(direction) * eps_hat + per_image(sigma) * z


def evenly_spaced(native: int, steps: int) -> list[int]:
    """Return [T, ..., 0]: `steps` evenly spaced timesteps, falling from T = `native`, then 0; steps + 1 entries."""
    return [round(native * (steps - i) / steps) for i in range(steps + 1)]


@torch.no_grad()
def ddim_sample(denoise: Denoiser, x_T: Tensor, timesteps: list[int], schedule: Schedule) -> Tensor:
    """Sample x_0 from x_T (N, C, H, W) ~ N(0, I) by deterministic DDIM steps along `timesteps`, T to 0."""
    x, times = x_T, torch.tensor(timesteps, device=x_T.device).unsqueeze(1).expand(-1, len(x_T))
    for t, s in zip(times[:-1], times[1:], strict=True):
        x = ddim_step(x, denoise(x, t), t, s, schedule)
    return x
