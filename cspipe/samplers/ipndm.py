"""iPNDM-4 (Zhang and Chen 2023, improved from Liu et al. 2022): linear multistep on the noise, orders 1 to 4.

The memory is the noise eps_hat of the last three steps. What a correction adds to a state after its step counts as
noise of all earlier steps, so it is added to the remembered noise too; else it would be extrapolated as a trend.
With an estimate that never changes, the corrected trajectory is then DDIM's.
"""

from __future__ import annotations

from torch import Tensor

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import eps_from_x0, per_image
from cspipe.sampling.state import SamplerState

ETAS = (0.0, 0.0)
REMEMBERS, CORRECTS_ESTIMATES = True, False
WEIGHTS = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Adams-Bashforth weights by order, newest first; each row adds up to 1."""


def step(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
    """Return x_s of DDIM's step along the extrapolated noise; images (N, C, H, W), timesteps (N,)."""
    signal, noise = state.schedule.sqrt_alpha_bar, state.schedule.sqrt_one_minus_alpha_bar
    noises = [eps_from_x0(x_t, x0_hat, t, state.schedule)]
    if state.history:
        predicted, *older = state.history
        added = (x_t - predicted) / per_image(noise[t])
        noises += [eps_hat + added for eps_hat in older]
    trend = sum(weight * eps_hat for weight, eps_hat in zip(WEIGHTS[len(noises) - 1], noises, strict=True)) - noises[0]
    x_s = ddim_step(x_t, x0_hat, t, s, state.schedule) + per_image(noise[s] - noise[t] * signal[s] / signal[t]) * trend
    state.history = [x_s, *noises[:3]]
    return x_s
