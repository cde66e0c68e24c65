"""DDIM (Song et al. 2021), with any share of the posterior's noise."""

from __future__ import annotations

from torch import Tensor

from cspipe.diffusion.ddim import ddim_step
from cspipe.sampling.state import SamplerState

ETAS = (0.0, 1.0)
REMEMBERS = CORRECTS_ESTIMATES = False


def step(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
    """Return x_s; images (N, C, H, W), timesteps (N,)."""
    return ddim_step(x_t, x0_hat, t, s, state.schedule, state.eta, state.z())
