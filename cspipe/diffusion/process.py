"""The forward process, the targets that a net may predict, and the clean estimate that follows from a prediction.

Shapes: images (N, C, H, W); steps t (N,) int64 in 1..T. Clean images lie in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from cspipe.diffusion.schedule import Schedule

Prediction = Literal["eps", "x0", "v", "edm"]
SIGMA_DATA = 0.5
"""Standard deviation of clean pixels assumed by EDM (Karras et al. 2022, table 1)."""
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> x0_hat, the clean estimate clipped to [-1, 1]."""


def per_image(values: Tensor) -> Tensor:
    """Reshape (N,) to (N, 1, 1, 1), to multiply images with."""
    return values.reshape(-1, 1, 1, 1)


def add_noise(x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return x_t = sqrt(ab_t) x0 + sqrt(1 - ab_t) eps, for eps ~ N(0, I) a draw from q(x_t | x0).

    This is eq. 4 of Ho et al. (2020).
    """
    return per_image(schedule.sqrt_alpha_bar[t]) * x0 + per_image(schedule.sqrt_one_minus_alpha_bar[t]) * eps


def eps_from_x0(x_t: Tensor, x0: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return eps with x_t = add_noise(x0, eps, t); for a clipped x0_hat this is the eps_hat of docs/METHOD.md."""
    return (x_t - per_image(schedule.sqrt_alpha_bar[t]) * x0) / per_image(schedule.sqrt_one_minus_alpha_bar[t])


def training_target(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return the net's target at (x_t, t): eps, x0, v = sqrt(ab) eps - sqrt(1-ab) x0 (Salimans and Ho 2022), or F.

    EDM's target is F = (x0 - c_skip x_ve) / c_out (Karras et al. 2022, eq. 8) = (n/sd x0 - sd a eps) / d, with
    a = sqrt(ab), n = sqrt(1-ab), sd = SIGMA_DATA and d = `edm_scale`; the plain mean square on F weighs x0's error by
    1/c_out^2.
    """
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x0
    signal, noise = per_image(schedule.sqrt_alpha_bar[t]), per_image(schedule.sqrt_one_minus_alpha_bar[t])
    if prediction == "v":
        return signal * eps - noise * x0
    return (noise / SIGMA_DATA * x0 - SIGMA_DATA * signal * eps) / edm_scale(t, schedule)


def clean_estimate(prediction: Prediction, output: Tensor, x_t: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return x0_hat in [-1, 1] from the net's output at (x_t, t): the inverse of `training_target`, clipped."""
    signal, noise = per_image(schedule.sqrt_alpha_bar[t]), per_image(schedule.sqrt_one_minus_alpha_bar[t])
    if prediction == "eps":
        x0_hat = (x_t - noise * output) / signal
    elif prediction == "x0":
        x0_hat = output
    elif prediction == "v":
        x0_hat = signal * x_t - noise * output
    else:
        scale = edm_scale(t, schedule)
        x0_hat = SIGMA_DATA / scale * (SIGMA_DATA / scale * signal * x_t + noise * output)
    return x0_hat.clamp(-1, 1)


def net_input(prediction: Prediction, x_t: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """Return the net's input for x_t: c_in x_ve = x_t / d, of standard deviation 1 at every t, for EDM; else x_t."""
    return x_t / edm_scale(t, schedule) if prediction == "edm" else x_t


def edm_scale(t: Tensor, schedule: Schedule) -> Tensor:
    """Return d = sqrt(1 - ab + SIGMA_DATA^2 ab), the standard deviation of x_t; t (N,) -> (N, 1, 1, 1).

    EDM is written in x_ve = x_t / sqrt(ab) and sigma = sqrt(1-ab) / sqrt(ab) (Karras et al. 2022, table 1). In x_t EDM
    needs no division by a small number: c_in x_ve = x_t / d, c_skip x_ve = sd^2 sqrt(ab) x_t / d^2, and
    c_out = sd sqrt(1-ab) / d. With sd = 1 the net predicts -v.
    """
    signal, noise = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return per_image((noise**2 + (SIGMA_DATA * signal) ** 2).sqrt())
