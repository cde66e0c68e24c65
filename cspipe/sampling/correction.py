"""What every correction of the reverse steps has in common."""

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
"""The net as it is asked under a correction, and what is done to x_s after a step."""


class CorrectionSettings(Section, ABC):
    """What params.yaml says of a correction, and how that becomes one."""

    needs_compensator: ClassVar[bool] = False
    """Whether it uses the net C; the variant then waits for the stage that fits it."""
    deterministic: ClassVar[bool] = False
    """Whether it holds for steps without noise alone (eta 0)."""
    on_states: ClassVar[bool] = False
    """Whether it holds for states after a step alone, so not with a sampler that corrects estimates."""

    name: str = Field(description="the correction, a file of cspipe/corrections")

    @abstractmethod
    def build(self, denoise: Denoiser, schedule: Schedule, C: Compensator | None) -> Corrected:
        """How the net is asked at (x_t, t) under the correction, and what is done to x_s after the step.

        One that acts on the estimate, or on the time that the net sees, returns another denoiser and None; one that
        acts on the state returns `denoise` as it is and a hook. `C` is there if `needs_compensator`, else None.
        """

    def words(self) -> str:
        """The correction in a few words, for the report."""
        return ", ".join([self.name, *(f"{key} {value}" for key, value in self if key != "name")])


def on_estimates(denoise: Denoiser, after_step: AfterStep | None) -> Corrected:
    """The correction on every estimate of the net, in place of the states.

    A corrected estimate is what the corrected step from t straight to 0 gives: x0_hat + C(x0_hat, t) for the
    compensation with the weight kappa.
    """
    if after_step is None:
        return denoise, None

    def corrected(x_t: Tensor, t: Tensor) -> Tensor:
        """The corrected estimate at (x_t, t)."""
        x0_hat = denoise(x_t, t)
        return after_step(x0_hat, x0_hat, t, t * 0)

    return corrected, None
