"""Heun's second-order step of EDM (Karras et al. 2022, algorithm 1, without churn).

It calls the net twice per step: n steps cost 2n - 1 calls and compare with 2n - 1 steps of the other samplers. The
last step, to s = 0, is Euler's, which is DDIM's.

A correction acts on the estimates of both ends, before their slopes are averaged: with the weight kappa the compensated
trajectory is then Heun's own on x0_hat + C(x0_hat, t), as it is DDIM's for `ddim`. Adding w C after the whole step
would achieve that only for a C that never changes. Of the weight, w(t, 0) enters: 1 for kappa and signal,
1 - sqrt(ab_t) for cold, a constant as it is; params.yaml refuses a cap.
"""

from __future__ import annotations

from torch import Tensor

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import per_image
from cspipe.sampling.state import SamplerState

ETAS = (0.0, 0.0)
REMEMBERS, CORRECTS_ESTIMATES = False, True


def step(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
    """Return x_s; images (N, C, H, W), timesteps (N,).

    In x_ve = x_t / sqrt(ab_t) and sigma = sqrt(1-ab) / sqrt(ab) the slope is eps_hat, and DDIM is Euler's step.
    The mean of the slopes at both ends adds (sigma_t / sigma_s - 1) / 2 times the change of the estimate to that step.
    """
    x_s = ddim_step(x_t, x0_hat, t, s, state.schedule)
    if state.is_last:
        return x_s
    assert state.denoise is not None, "set by sample"
    signal, noise = state.schedule.sqrt_alpha_bar, state.schedule.sqrt_one_minus_alpha_bar
    # sqrt(ab_s) (sigma_t / sigma_s - 1) / 2, kappa over twice sigma_s / sigma_t
    weight = state.schedule.kappa(t, s) * (noise[t] / signal[t]) / (noise[s] / signal[s]) / 2
    return x_s + per_image(weight) * (state.denoise(x_s, s) - x0_hat)
