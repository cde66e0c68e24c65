"""Self-conditioning (Chen et al. 2023, "Analog Bits"): the net is told its own clean estimate of the step before."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from cspipe.diffusion.process import Denoiser


class Told(Protocol):
    """A net that may be told a clean estimate."""

    def told(self, previous: Tensor | None) -> Denoiser:
        """The net that is told one (N, C, H, W); None: zeros."""


class Recalling:
    """The net along one walk from x_T to x_0: told zeros at first, then what it said last."""

    def __init__(self, denoise: Told) -> None:
        self.denoise = denoise
        self.previous: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> the clean estimate, remembered for the next call."""
        self.previous = self.denoise.told(self.previous)(x_t, t)
        return self.previous
