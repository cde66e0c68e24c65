"""Nets as the mathematics sees them: functions of an image and a native step."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, C, H, W), t (N,) int64 -> (N, C, H, W) float32."""
        with self.device.autocast():
            output: Tensor = self.net(x, t * (1000 / self.steps))
        return output.float()


@dataclass(frozen=True)
class NetDenoiser:
    """(x_t, t) -> x0h in [-1, 1], from the main net and what it predicts."""

    net: Timed
    prediction: Prediction
    schedule: Schedule

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> the clean estimate, same shape."""
        return clean_estimate(self.prediction, self.net(x_t, t), x_t, t, self.schedule)
