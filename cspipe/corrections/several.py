"""Several corrections at once, such as compensation with epsilon scaling."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny
from torch import Tensor

from cspipe.compensation import Compensator
from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.settings import SettingsOf
from cspipe.sampling.correction import Corrected, CorrectionSettings

Part = Annotated[SerializeAsAny[CorrectionSettings], SettingsOf("cspipe.corrections", CorrectionSettings)]


class Settings(CorrectionSettings):
    """Settings of corrections in a row: each calls the net through those before it and acts on the state they leave."""

    of: list[Part] = Field(min_length=2, description="the corrections, each with its keys")

    @property
    def needs_compensator(self) -> bool:  # type: ignore[override]  # elsewhere it is the same for the whole class
        """Whether one of the corrections needs the net C."""
        return any(part.needs_compensator for part in self.of)

    @property
    def deterministic(self) -> bool:  # type: ignore[override]  # likewise
        """Whether one of the corrections is valid only for deterministic steps."""
        return any(part.deterministic for part in self.of)

    @property
    def on_states(self) -> bool:  # type: ignore[override]  # likewise
        """Whether one of the corrections is valid only for states after a step."""
        return any(part.on_states for part in self.of)

    def build(self, denoise: Denoiser, schedule: Schedule, C: Compensator | None) -> Corrected:
        """Return the denoiser under all corrections, and their hooks one after the other."""
        hooks = []
        for part in self.of:
            denoise, hook = part.build(denoise, schedule, C if part.needs_compensator else None)
            if hook is not None:
                hooks.append(hook)

        def after_step(x_s: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor) -> Tensor:
            """Apply every hook to x_s; all hooks get the same estimate."""
            for hook in hooks:
                x_s = hook(x_s, x0_hat, t, s)
            return x_s

        return denoise, after_step if hooks else None

    def words(self) -> str:
        """Join the words of all corrections: 'kappa + epsilon_scaling, base 1.005, slope 0.0'."""
        return " + ".join(part.words() for part in self.of)
