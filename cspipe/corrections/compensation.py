"""Compensation sampling (arXiv 2312.06285): w(t, s) C(x0_hat, t) is added to the state after every step."""

from __future__ import annotations

from typing import ClassVar

from cspipe.compensation import Compensation, Compensator, Weighting
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.schedule import Schedule
from cspipe.sampling.correction import Corrected, CorrectionSettings


class Settings(Weighting, CorrectionSettings):
    """Settings of the weight w(t, s)."""

    needs_compensator: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    @property
    def on_states(self) -> bool:  # type: ignore[override]  # elsewhere it is the same for the whole class
        """Whether there is a cap: it is relative to the noise of the state at the end of a step."""
        return self.cap is not None

    def build(self, denoise: Denoiser, schedule: Schedule, C: Compensator | None) -> Corrected:
        """Return the net as it is, and the compensation as the hook after a step."""
        assert C is not None, "needs_compensator"
        return denoise, Compensation(C, schedule, self)

    def words(self) -> str:
        """Describe the weight as a product, such as '0.5 x kappa, cap 0.3'."""
        weight = self.weight if isinstance(self.weight, str) else f"{self.weight:g}"
        scale = "" if self.scale == 1 else f"{self.scale:g} \N{MULTIPLICATION SIGN} "
        return f"{scale}{weight}" + ("" if self.cap is None else f", cap {self.cap:g}")
