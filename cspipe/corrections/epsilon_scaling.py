"""Epsilon scaling (Ning et al. 2024): the estimated noise is divided by a number a little above 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cspipe.corrections import AfterStep, CorrectionSettings, Module
from cspipe.diffusion.process import noise_in, per_image
from cspipe.runtime.settings import Number, Scale

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.diffusion.process import Denoiser
    from cspipe.diffusion.schedule import Schedule


class Settings(CorrectionSettings):
    """eh / (slope t + base): uniform with slope 0, as its authors recommend, or linear."""

    base: Number = Field(gt=0, le=10, description="what the noise is divided by, at t = 0; 1 with slope 0: plain")
    slope: Scale = Field(description="growth of the divisor per native step; 0: the same at all steps")

    def build(self, denoise: Denoiser, schedule: Schedule, module: Module | None) -> tuple[Denoiser, AfterStep | None]:
        """The estimate that the scaled noise means, clipped to [-1, 1] like the net's own, and no hook."""

        def scaled(x_t: Tensor, t: Tensor) -> Tensor:
            """x0h + sqrt(1 - ab_t) / sqrt(ab_t) (eh - eh / (slope t + base))."""
            x0h = denoise(x_t, t)
            removed = 1 - 1 / (self.slope * t.double() + self.base)
            weight = (removed * schedule.noise[t] / schedule.signal[t]).to(x_t.dtype)
            return (x0h + per_image(weight) * noise_in(x_t, x0h, t, schedule)).clamp(-1, 1)

        return scaled, None
