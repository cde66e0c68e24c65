"""Time shift (Li et al. 2024): the net is given the time whose noise level is nearest to the variance of the state.

The step itself still goes from t to s. The authors' code for ADM steps by the shifted time as well, so that the images
of a batch leave the common path; here they stay on it, with any sampler.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from cspipe.compensation import Compensator
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.settings import WholeNumber
from cspipe.sampling.correction import Corrected, CorrectionSettings


class Settings(CorrectionSettings):
    """Settings of the shift: in a window, for t above a cut-off; the first step, from pure noise, is never shifted."""

    window: WholeNumber = Field(description="native steps from the least to the largest time shown, around t; 0: plain")
    cutoff: WholeNumber = Field(description="native steps; at and below it the net sees t")

    def build(self, denoise: Denoiser, schedule: Schedule, C: Compensator | None) -> Corrected:
        """Return the net called at the shifted time, and no hook."""
        levels = schedule.sqrt_one_minus_alpha_bar[1:] ** 2

        def shifted(x_t: Tensor, t: Tensor) -> Tensor:
            """Return the net's estimate at the t' nearest to the variance of each image over its own pixels."""
            variance = x_t.flatten(1).var(dim=1)
            # 1 - ab rises with t, so the nearest in the window is the nearest of all, moved to the window's edge.
            nearest = (variance.unsqueeze(1) - levels).abs().argmin(dim=1) + 1
            shifted_t = nearest.clamp(t - self.window // 2, t + self.window // 2)
            return denoise(x_t, shifted_t.where((t > self.cutoff) & (t < schedule.steps), t))

        return shifted, None
