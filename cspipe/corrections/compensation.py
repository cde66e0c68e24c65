"""Compensation sampling (arXiv 2312.06285): x_s + w(t, s) C(x0h, t), with C ~ x0 - x0h; docs/METHOD.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cspipe.corrections import AfterStep, CorrectionSettings, Module
from cspipe.diffusion.process import per_image
from cspipe.runtime.settings import Number, Scale, Section

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.diffusion.process import Denoiser
    from cspipe.diffusion.schedule import Schedule

NamedWeight = Literal["kappa", "signal", "cold"]


class Weighting(Section):
    """How C(x0h, t) enters a reverse step: x_s = DDIM + scale * min(w, cap * sqrt(1-ab_s)) * C."""

    weight: NamedWeight | Scale = Field(description="w(t, s): kappa (exact), signal, cold, or a constant")
    scale: Scale = Field(description="factor on the weight")
    cap: Annotated[Number, Field(gt=0)] | None = Field(description="cap on w in units of sqrt(1-ab_s); null: none")


class Settings(Weighting, CorrectionSettings):
    """The compensation of every step."""

    needs_module: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def build(self, denoise: Denoiser, schedule: Schedule, module: Module | None) -> tuple[Denoiser, AfterStep | None]:
        """The net as it is, and the compensated step."""
        assert module is not None, "needs_module"
        return denoise, Compensation(module, CompensationWeight(schedule, self.weight, self.scale, self.cap))

    def words(self) -> str:
        """As a product: '0.5 x kappa, cap 0.3'."""
        weight = self.weight if isinstance(self.weight, str) else f"{self.weight:g}"
        scale = "" if self.scale == 1 else f"{self.scale:g} \N{MULTIPLICATION SIGN} "
        return f"{scale}{weight}" + ("" if self.cap is None else f", cap {self.cap:g}")


@dataclass(frozen=True)
class CompensationWeight:
    """w(t, s) of the compensated step: scale * min(w, cap * sqrt(1 - ab_s)).

    kind: `kappa` (exact), `signal` = sqrt(ab_s), `cold` = sqrt(ab_s) - sqrt(ab_t), or a constant (docs/METHOD.md).
    cap keeps w C small beside the noise of step s; it is not applied at s = 0, where there is none.
    """

    schedule: Schedule
    kind: NamedWeight | float = "kappa"
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        """Weights in the shape of t, s < t."""
        signal = self.schedule.signal
        if self.kind == "kappa":
            w = self.schedule.kappa(t, s)
        elif self.kind == "signal":
            w = signal[s]
        elif self.kind == "cold":
            w = signal[s] - signal[t]
        else:
            w = signal[s] * 0 + self.kind
        if self.cap is not None:
            w = w.minimum(self.cap * self.schedule.noise[s]).where(s > 0, w)
        return self.scale * w


@dataclass(frozen=True)
class Compensation:
    """x_s + w(t, s) C(x0h, t)."""

    module: Module
    weight: CompensationWeight

    def __call__(self, x_s: Tensor, x0h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The compensated state at s; images (N, C, H, W), steps (N,)."""
        return x_s + per_image(self.weight(t, s)) * self.module(x0h, t)
