"""The interface of the corrections of the reverse steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from pydantic import Field
from torch import Tensor

from cspipe.compensation import Compensator
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.settings import Section

AfterStep = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(x_s, x0_hat, t, s) -> corrected x_s."""
Corrected = tuple[Denoiser, AfterStep | None]
"""Denoiser under a correction, and the hook that changes x_s after a step; None: no hook."""


class CorrectionSettings(Section, ABC):
    """Base class of a correction's settings in params.yaml, which build the correction."""

    needs_compensator: ClassVar[bool] = False
    """Whether the correction uses the net C; the variant then waits for the stage that fits C."""
    deterministic: ClassVar[bool] = False
    """Whether the correction is valid only for steps without noise (eta 0)."""
    on_states: ClassVar[bool] = False
    """Whether the correction is valid only for states after a step, so not with a sampler that corrects estimates."""

    name: str = Field(description="the correction, a file of cspipe/corrections")

    @abstractmethod
    def build(self, denoise: Denoiser, schedule: Schedule, C: Compensator | None) -> Corrected:
        """Return the denoiser (x_t, t) -> x0_hat under the correction, and the hook that changes x_s after a step.

        A correction of the estimate, or of the time that the net gets, returns another denoiser and None; one of the
        state returns `denoise` as it is and a hook. `C` is given if `needs_compensator`, else it is None.
        """

    def words(self) -> str:
        """Describe the correction in a few words, for the report."""
        return ", ".join([self.name, *(f"{key} {value}" for key, value in self if key != "name")])


def on_estimates(denoise: Denoiser, after_step: AfterStep | None) -> Corrected:
    """Return the correction as applied to every estimate of the net, in place of the states.

    A corrected estimate is what the corrected step from t straight to 0 gives: x0_hat + C(x0_hat, t) for the
    compensation with the weight kappa.
    """
    if after_step is None:
        return denoise, None

    def corrected(x_t: Tensor, t: Tensor) -> Tensor:
        """Return the corrected estimate at (x_t, t)."""
        x0_hat = denoise(x_t, t)
        return after_step(x0_hat, x0_hat, t, t * 0)

    return corrected, None
