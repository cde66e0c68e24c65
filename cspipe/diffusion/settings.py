"""The section `diffusion` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool

from cspipe.diffusion.process import Prediction
from cspipe.diffusion.schedule import SCHEDULES, Schedule
from cspipe.runtime.settings import Section


class DiffusionSettings(Section):
    """Settings of the forward process and of the main net's prediction."""

    steps: Annotated[int, Field(ge=2, le=10_000, strict=True)] = Field(description="T, native steps")
    schedule: Literal["linear", "cosine", "karras"] = Field(
        description="linear betas scaled by 1000/T, cosine alpha-bar, or EDM's noise levels"
    )
    prediction: Prediction = Field(description="what the main net outputs; edm: preconditioned")
    self_condition: StrictBool = Field(description="give the main net its clean estimate of the step before")

    def new_schedule(self) -> Schedule:
        """Return the noise schedule, float64 on the CPU."""
        return SCHEDULES[self.schedule](self.steps)
