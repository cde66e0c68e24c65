"""DDIM (Song et al. 2021), with any share of the posterior's noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.diffusion.process import noise_in, per_image

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.diffusion.schedule import Schedule
    from cspipe.samplers import Walk

ETAS = (0.0, 1.0)
REMEMBERS = False


def step(x_t: Tensor, x0h: Tensor, t: Tensor, s: Tensor, walk: Walk) -> Tensor:
    """x_s of a walk; images (N, C, H, W), steps (N,)."""
    return ddim_step(x_t, x0h, t, s, walk.schedule, walk.eta, walk.z())


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
