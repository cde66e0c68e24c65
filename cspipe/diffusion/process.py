"""The forward process, what a net may predict, and the clean picture that its prediction means.

Shapes: images (N, C, H, W); steps t (N,) int64 in 1..T. Clean images lie in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # samplers and corrections need this file, and params.yaml is checked without torch
    from torch import Tensor

    from cspipe.diffusion.schedule import Schedule

Prediction = Literal["eps", "x0", "v"]
Denoiser = Callable[["Tensor", "Tensor"], "Tensor"]
"""(x_t, t) -> x0h, the clean estimate clipped to [-1, 1]."""


def per_image(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1), to multiply images with."""
    return values.reshape(-1, 1, 1, 1)


def diffuse(x0: Tensor, e: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """x_t = sqrt(ab_t) x0 + sqrt(1 - ab_t) e, a draw from q(x_t | x0) for e ~ N(0, I) (Ho et al. 2020, eq. 4)."""
    return per_image(schedule.signal[t]) * x0 + per_image(schedule.noise[t]) * e


def noise_in(x_t: Tensor, x0: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """The e for which x_t = diffuse(x0, e, t); recomputed from a clipped x0h it is docs/METHOD.md's eh."""
    return (x_t - per_image(schedule.signal[t]) * x0) / per_image(schedule.noise[t])


def training_target(prediction: Prediction, x0: Tensor, e: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """What the net should output at (x_t, t): e, x0, or v = sqrt(ab) e - sqrt(1-ab) x0 (Salimans and Ho 2022)."""
    if prediction == "eps":
        return e
    if prediction == "x0":
        return x0
    return per_image(schedule.signal[t]) * e - per_image(schedule.noise[t]) * x0


def clean_estimate(prediction: Prediction, output: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """x0h in [-1, 1] from the net's output at (x_t, t): the inverse of `training_target`, clipped."""
    signal, noise = per_image(schedule.signal[t]), per_image(schedule.noise[t])
    if prediction == "eps":
        x0h = (x_t - noise * output) / signal
    elif prediction == "x0":
        x0h = output
    else:
        x0h = signal * x_t - noise * output
    return x0h.clamp(-1, 1)
