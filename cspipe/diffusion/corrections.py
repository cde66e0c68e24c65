"""Corrections of a reverse step. Each is a callable (x_s, x0h, t, s) -> x_s for the hook of `samplers.sample`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cspipe.diffusion.process import per_image
from cspipe.diffusion.schedule import Schedule

WeightKind = Literal["kappa", "signal", "cold"] | float


@dataclass(frozen=True)
class CompensationWeight:
    """w(t, s) of the compensated step: scale * min(w, cap * sqrt(1 - ab_s)).

    kind: `kappa` (exact), `signal` = sqrt(ab_s), `cold` = sqrt(ab_s) - sqrt(ab_t), or a constant (docs/METHOD.md).
    cap keeps w C small beside the noise of step s; it is not applied at s = 0, where there is none.
    """

    schedule: Schedule
    kind: WeightKind = "kappa"
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
    """x_s + w(t, s) C(x0h, t), with C ~ x0 - x0h (arXiv 2312.06285)."""

    module: Callable[[Tensor, Tensor], Tensor]
    weight: CompensationWeight

    def __call__(self, x_s: Tensor, x0h: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The compensated state at s; images (N, C, H, W), steps (N,)."""
        return x_s + per_image(self.weight(t, s)) * self.module(x0h, t)
