"""From x_T to pictures along a path of the native steps."""

from __future__ import annotations

import torch
from torch import Tensor

from cspipe.corrections import AfterStep
from cspipe.diffusion.process import Denoiser
from cspipe.samplers import Step, Walk
from cspipe.sampling.exposure import pixel_variance
from cspipe.sampling.repaint import renoise


def subsequence(native: int, steps: int) -> list[int]:
    """`steps` native steps, evenly spread, falling from T, and then 0: [T, ..., 0], steps + 1 entries."""
    return [round(native * (steps - i) / steps) for i in range(steps + 1)]


@torch.no_grad()
def sample(denoise: Denoiser, x_T: Tensor, step: Step, walk: Walk, correction: AfterStep | None = None) -> Tensor:
    """Walk x_T (N, C, H, W) ~ N(0, I) along walk.steps to x_0; a walk serves once.

    Where the path rises (`resampled`) noise is added; known pixels are put back after every step down. The variance of
    every state is left in walk.variances.
    """
    walk.denoise, walk.correction = denoise, correction
    # All steps of all images as one device tensor, made before the loop: no host copy inside it.
    times = torch.tensor(walk.steps, device=x_T.device).unsqueeze(1).expand(-1, len(x_T))
    x = x_T
    walk.variances.append(pixel_variance(x))
    for number, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        walk.number = number
        x = renoise(x, t, s, walk.draw(), walk.schedule) if walk.rises(number) else _down(x, t, s, step, walk)
        walk.variances.append(pixel_variance(x))
    return x


def _down(x_t: Tensor, t: Tensor, s: Tensor, step: Step, walk: Walk) -> Tensor:
    """A corrected step of the walk, and known pixels as they are at s."""
    assert walk.denoise is not None, "set by sample"
    x0h = walk.denoise(x_t, t)
    x_s = step(x_t, x0h, t, s, walk)
    if walk.correction is not None:
        x_s = walk.correction(x_s, x0h, t, s)
    return x_s if walk.known is None else walk.known.put_back(x_s, s, walk.draw(), walk.schedule)
