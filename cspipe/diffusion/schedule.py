"""Noise schedules: how much signal and how much noise x_t holds at each of the T native steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """x_t = sqrt_alpha_bar[t] x0 + sqrt_one_minus_alpha_bar[t] eps for t = 0..T, alpha_bar[0] = 1.

    Both fields are (T+1,) tensors. The square roots are taken in float64 before any cast: 1 - ab_1 is about 1e-4, too
    small a difference for float32 to form.
    """

    sqrt_alpha_bar: Tensor
    sqrt_one_minus_alpha_bar: Tensor

    @staticmethod
    def from_alpha_bar(alpha_bar: Tensor) -> Schedule:
        """Build a schedule from cumulative alpha-bar (T,) for t = 1..T, float64, falling, in (0, 1)."""
        alpha_bar = torch.cat([alpha_bar.new_ones(1), alpha_bar])
        return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())

    @property
    def steps(self) -> int:
        """T, the number of native steps."""
        return len(self.sqrt_alpha_bar) - 1

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Schedule:
        """Return the same schedule on a device, in the type of the images."""
        return Schedule(self.sqrt_alpha_bar.to(device, dtype), self.sqrt_one_minus_alpha_bar.to(device, dtype))

    def kappa(self, t: Tensor, s: Tensor) -> Tensor:
        """Coefficient of x0 - x0_hat in the error of a DDIM step from t to s < t (docs/METHOD.md); shape of t, >= 0."""
        signal, noise = self.sqrt_alpha_bar, self.sqrt_one_minus_alpha_bar
        return signal[s] - signal[t] * noise[s] / noise[t]

    def half_log_snr(self, t: Tensor) -> Tensor:
        """lambda_t = log(sqrt(ab_t) / sqrt(1 - ab_t)) in float64, shape of t; infinite at t = 0."""
        return self.sqrt_alpha_bar[t].double().log() - self.sqrt_one_minus_alpha_bar[t].double().log()


def linear_schedule(steps: int) -> Schedule:
    """Linear betas of Ho et al. (2020), scaled by 1000/T as in ADM so that x_T is noise for any T.

    For T <= 20 the last scaled betas reach 1; they stop at 0.999 as in the cosine schedule.
    """
    scale = 1000 / steps
    betas = torch.linspace(scale * 1e-4, scale * 0.02, steps, dtype=torch.float64).clamp(max=0.999)
    return Schedule.from_alpha_bar(torch.cumprod(1 - betas, dim=0))


def cosine_schedule(steps: int) -> Schedule:
    """Squared-cosine alpha-bar of Nichol and Dhariwal (2021), betas at most 0.999."""

    def alpha_bar(u: float) -> float:
        """Return alpha-bar at the fraction u of the way to noise, up to a constant factor."""
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999) for i in range(steps)]
    return Schedule.from_alpha_bar(torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), dim=0))


def karras_schedule(steps: int) -> Schedule:
    """EDM's noise levels (Karras et al. 2022, eq. 5, rho 7): sigma from 80 at T to 0.002 at 1, ab = 1/(1+sigma^2)."""
    least, most = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigma = torch.linspace(least, most, steps, dtype=torch.float64) ** 7
    return Schedule.from_alpha_bar(1 / (1 + sigma**2))


SCHEDULES = {"linear": linear_schedule, "cosine": cosine_schedule, "karras": karras_schedule}
