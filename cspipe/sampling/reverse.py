"""The sampling loop from x_T to images along native timesteps."""

from __future__ import annotations

import torch
from torch import Tensor

from cspipe.diffusion.process import Denoiser
from cspipe.sampling.correction import AfterStep
from cspipe.sampling.exposure import pixel_variance
from cspipe.sampling.repaint import renoise
from cspipe.sampling.state import SamplerState, Step


@torch.no_grad()
def sample(
    denoise: Denoiser, x_T: Tensor, step: Step, state: SamplerState, correction: AfterStep | None = None
) -> Tensor:
    """Sample x_0 from x_T (N, C, H, W) ~ N(0, I) along state.timesteps; a state is for one call.

    Where the timesteps rise (`resampled`) noise is added; known pixels are put back after every step down. The variance
    of every x_t is left in state.variances. The step from state.terminal, the mean image, is not corrected, because
    E[x0 - mean] = 0.
    """
    state.denoise = denoise
    # All timesteps of all images as one device tensor, made before the loop: no host copy inside it.
    times = torch.tensor(state.timesteps, device=x_T.device).unsqueeze(1).expand(-1, len(x_T))
    x = x_T
    state.variances.append(pixel_variance(x))
    for number, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        state.number = number
        if state.rises(number):
            x = renoise(x, t, s, state.draw(), state.schedule)
        else:
            given = state.given
            x0_hat = denoise(x, t) if given is None else given.expand_as(x)
            x = step(x, x0_hat, t, s, state)
            if correction is not None and given is None:
                x = correction(x, x0_hat, t, s)
            if state.known is not None:
                x = state.known.put_back(x, s, state.draw(), state.schedule)
        state.variances.append(pixel_variance(x))
    return x
