"""Samplers: from x_T to pictures along a falling subsequence of the native steps, with one hook for corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cspipe.diffusion.process import Denoiser, noise_in, per_image
from cspipe.diffusion.schedule import Schedule

Correction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x_s, x0h, t, s) -> corrected x_s."""
Noise = Callable[[], Tensor]
"""Draws fresh z ~ N(0, I) in the shape of the images."""


def subsequence(native: int, steps: int) -> list[int]:
    """`steps` native steps, evenly spread, falling from T, and then 0: [T, ..., 0], steps + 1 entries."""
    return [round(native * (steps - i) / steps) for i in range(steps + 1)]


def ddim_step(
    x_t: Tensor, x0h: Tensor, t: Tensor, s: Tensor, schedule: Schedule, eta: float = 0.0, z: Tensor | None = None
) -> Tensor:
    """x_s = sqrt(ab_s) x0h + sqrt(1 - ab_s - sigma^2) eh + sigma z (Song et al. 2021, eq. 12), s < t.

    sigma = eta sqrt((1 - ab_s)/(1 - ab_t)) sqrt(1 - ab_t/ab_s); z is needed for eta > 0 alone.
    """
    signal_s, noise_s = schedule.signal[s], schedule.noise[s]
    eh = noise_in(x_t, x0h, t, schedule)
    if eta == 0 or z is None:
        return per_image(signal_s) * x0h + per_image(noise_s) * eh
    sigma = eta * noise_s / schedule.noise[t] * (1 - (schedule.signal[t] / signal_s) ** 2).sqrt()
    direction = (noise_s**2 - sigma**2).clamp(min=0).sqrt()
    return per_image(signal_s) * x0h + per_image(direction) * eh + per_image(sigma) * z


@torch.no_grad()
def sample(
    denoise: Denoiser,
    x_T: Tensor,
    schedule: Schedule,
    steps: Sequence[int],
    eta: float = 0.0,
    noise: Noise | None = None,
    correction: Correction | None = None,
) -> Tensor:
    """Walk x_T (N, C, H, W) ~ N(0, I) down `steps` (see `subsequence`) to x_0; eta 0 is DDIM, eta 1 DDPM.

    Raises ValueError if eta > 0 comes without `noise`.
    """
    if eta > 0 and noise is None:
        raise ValueError("eta > 0 needs a noise source")
    # All steps of all images as one device tensor, made before the loop: no host copy inside it.
    times = torch.tensor(steps, device=x_T.device).unsqueeze(1).expand(-1, len(x_T))
    x = x_T
    for t, s in zip(times[:-1], times[1:], strict=True):
        x0h = denoise(x, t)
        z = noise() if noise is not None and eta > 0 else None
        x_s = ddim_step(x, x0h, t, s, schedule, eta, z)
        x = x_s if correction is None else correction(x_s, x0h, t, s)
    return x
