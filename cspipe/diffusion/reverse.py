"""From x_T to pictures along a path of the native steps."""

from __future__ import annotations

import torch
from torch import Tensor

from cspipe.diffusion.corrections import AfterStep
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.repaint import renoise
from cspipe.diffusion.samplers import Step, Walk


def subsequence(native: int, steps: int) -> list[int]:
    """`steps` native steps, evenly spread, falling from T, and then 0: [T, ..., 0], steps + 1 entries."""
    return [round(native * (steps - i) / steps) for i in range(steps + 1)]


@torch.no_grad()
def sample(denoise: Denoiser, x_T: Tensor, step: Step, walk: Walk, correction: AfterStep | None = None) -> Tensor:
    """Walk x_T (N, C, H, W) ~ N(0, I) along walk.steps to x_0; a walk serves once.

    Where the path rises (`resampled`) noise is added; known pixels are put back after every step down.
    """
    # All steps of all images as one device tensor, made before the loop: no host copy inside it.
    times = torch.tensor(walk.steps, device=x_T.device).unsqueeze(1).expand(-1, len(x_T))
    x = x_T
    for number, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        if walk.rises(number):
            x = renoise(x, t, s, walk.draw(), walk.schedule)
            continue
        x0h = denoise(x, t)
        x_s = step(x, x0h, t, s, walk)
        x = x_s if correction is None else correction(x_s, x0h, t, s)
        if walk.known is not None:
            x = walk.known.put_back(x, s, walk.draw(), walk.schedule)
    return x
