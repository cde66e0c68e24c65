"""Nets as the mathematics sees them: functions of an image and a native step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cspipe.compute import Device
from cspipe.diffusion.process import Prediction, clean_estimate
from cspipe.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Timed:
    """A net called with native steps t (N,) in 1..T, which it gets on the scale 0..1000; its output is float32."""

    net: nn.Module
    steps: int
    device: Device
    condition: Tensor | None = None
    """(N, K, H, W) in [-1, 1], joined to the channels of the net's input; None for a net without one."""

    def given(self, condition: Tensor | None) -> Timed:
        """The same net under a condition."""
        return replace(self, condition=condition)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, C, H, W), t (N,) int64 -> (N, C, H, W) float32."""
        seen = x if self.condition is None else torch.cat([x, self.condition], dim=1)
        with self.device.autocast():
            output: Tensor = self.net(seen, t * (1000 / self.steps))
        return output.float()


@dataclass(frozen=True)
class NetDenoiser:
    """(x_t, t) -> x0h in [-1, 1], from the main net and what it predicts."""

    net: Timed
    prediction: Prediction
    schedule: Schedule

    def given(self, condition: Tensor | None) -> NetDenoiser:
        """The same net under a condition (N, K, H, W) in [-1, 1]."""
        return replace(self, net=self.net.given(condition))

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> the clean estimate, same shape."""
        return clean_estimate(self.prediction, self.net(x_t, t), x_t, t, self.schedule)
