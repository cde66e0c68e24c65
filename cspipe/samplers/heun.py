"""Heun's second-order step of EDM (Karras et al. 2022, algorithm 1, without churn).

It asks the net twice: a walk of n steps costs 2n - 1 calls, and is to be compared with 2n - 1 steps of the others. The
last step, to s = 0, is Euler's, which is DDIM's.

A correction acts on the estimates of both ends, before their slopes are averaged: with the weight kappa the compensated
walk is then Heun's own on x0h + C(x0h, t), as it is DDIM's for `ddim`. Adding w C after the whole step would keep that
only for a C that never changes: the second estimate would be made, and its slope taken, without it. Of the weight,
w(t, 0) enters: 1 for kappa and signal, 1 - sqrt(ab_t) for cold, a constant as it is, and no cap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.diffusion.process import per_image
from cspipe.samplers.ddim import ddim_step

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.samplers import Walk

ETAS = (0.0, 0.0)
REMEMBERS = False


def step(x_t: Tensor, x0h: Tensor, t: Tensor, s: Tensor, walk: Walk) -> Tensor:
    """x_s; images (N, C, H, W), steps (N,).

    In x_ve = x_t / sqrt(ab_t) and sigma = sqrt(1-ab) / sqrt(ab) the slope of the walk is eh, and DDIM is Euler's step.
    The mean of the slopes at both ends adds (sigma_t / sigma_s - 1) / 2 times the change of the estimate to it.
    """
    x0h = walk.correct_estimates(x0h, t)
    x_s = ddim_step(x_t, x0h, t, s, walk.schedule)
    if walk.is_last:
        return x_s
    assert walk.denoise is not None, "set by sample"
    signal, noise = walk.schedule.signal, walk.schedule.noise
    # sqrt(ab_s) (sigma_t / sigma_s - 1) / 2, kappa over twice sigma_s / sigma_t
    weight = walk.schedule.kappa(t, s) * (noise[t] / signal[t]) / (noise[s] / signal[s]) / 2
    return x_s + per_image(weight) * (walk.denoise(x_s, s) - x0h)
