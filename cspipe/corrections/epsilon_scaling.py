"""Epsilon scaling (Ning et al. 2024): the estimated noise is divided by a number a little above 1."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from cspipe.compensation import Compensator
from cspipe.diffusion.process import Denoiser, eps_from_x0, per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.settings import Number, Scale
from cspipe.sampling.correction import Corrected, CorrectionSettings


class Settings(CorrectionSettings):
    """Settings of eps_hat / (slope t + base): uniform with slope 0, as the authors recommend, or linear."""

    base: Number = Field(gt=0, le=10, description="what the noise is divided by, at t = 0; 1 with slope 0: plain")
    slope: Scale = Field(description="growth of the divisor per native step; 0: the same at all steps")

    def build(self, denoise: Denoiser, schedule: Schedule, C: Compensator | None) -> Corrected:
        """Return a denoiser with scaled noise, whose estimate is clipped to [-1, 1] like the net's own, and no hook."""

        def scaled(x_t: Tensor, t: Tensor) -> Tensor:
            """Return x0_hat + sqrt(1 - ab_t) / sqrt(ab_t) (eps_hat - eps_hat / (slope t + base)), clipped."""
            x0_hat = denoise(x_t, t)
            removed = 1 - 1 / (self.slope * t.double() + self.base)
            weight = (removed * schedule.sqrt_one_minus_alpha_bar[t] / schedule.sqrt_alpha_bar[t]).to(x_t.dtype)
            return (x0_hat + per_image(weight) * eps_from_x0(x_t, x0_hat, t, schedule)).clamp(-1, 1)

        return scaled, None
