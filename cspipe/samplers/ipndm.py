"""iPNDM-4 (Zhang and Chen 2023, improved from Liu et al. 2022): linear multistep on the noise, orders 1 to 4.

The memory is the noise eh of the last three steps. What a correction adds to a state after its step is taken for noise
that was there all along, so it is added to the remembered noise too; else it would be extrapolated as a trend. With an
estimate that never changes, the corrected walk is then DDIM's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.diffusion.process import noise_in, per_image
from cspipe.samplers.ddim import ddim_step

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.samplers import Walk

ETAS = (0.0, 0.0)
REMEMBERS = True
WEIGHTS = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Adams-Bashforth weights by order, newest first; each row adds up to 1."""


def step(x_t: Tensor, x0h: Tensor, t: Tensor, s: Tensor, walk: Walk) -> Tensor:
    """x_s: DDIM's step along the extrapolated noise; images (N, C, H, W), steps (N,)."""
    signal, noise = walk.schedule.signal, walk.schedule.noise
    noises = [noise_in(x_t, x0h, t, walk.schedule)]
    if walk.past:
        predicted, *older = walk.past
        added = (x_t - predicted) / per_image(noise[t])
        noises += [eh + added for eh in older]
    trend = sum(weight * eh for weight, eh in zip(WEIGHTS[len(noises) - 1], noises, strict=True)) - noises[0]
    x_s = ddim_step(x_t, x0h, t, s, walk.schedule) + per_image(noise[s] - noise[t] * signal[s] / signal[t]) * trend
    walk.past = [x_s, *noises[:3]]
    return x_s
