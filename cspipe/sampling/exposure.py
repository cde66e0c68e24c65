"""Exposure bias (Ning et al. 2023): how far the states of sampling are from those that the net was trained on.

The measure is the variance of an image over its own pixels, averaged over images: for x_t in sampling, and for x_t in
the forward process.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cspipe.diffusion.schedule import Schedule


def pixel_variance(x: Tensor) -> Tensor:
    """Sum over images (N, C, H, W) the variance of an image's pixels; returns a scalar on their device."""
    return x.flatten(1).var(dim=1).sum()


def exposure_rows(
    steps: Sequence[int], sampled: NDArray[np.float64], clean: float, schedule: Schedule
) -> list[dict[str, float]]:
    """Return rows of the variances of x_t at the native `steps`, T to 0: `sampled` (len(steps),) and forward process.

    The latter is ab_t Var(x0) + 1 - ab_t, where Var(x0) is `clean`, the mean variance of a training image's own pixels.
    """
    ab = schedule.sqrt_alpha_bar[torch.tensor(steps, device=schedule.sqrt_alpha_bar.device)].double().square()
    forward = (ab * clean + 1 - ab).tolist()
    columns = zip(steps, sampled.tolist(), forward, strict=True)
    return [{"t": t, "sampled": mean, "forward": known} for t, mean, known in columns]
