"""Nets as the mathematics sees them: functions of an image and a native step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cspipe.diffusion.process import Denoiser, Prediction, clean_estimate, net_input
from cspipe.diffusion.schedule import Schedule
from cspipe.diffusion.self_conditioning import Recalling
from cspipe.runtime.device import Device


@dataclass(frozen=True)
class Timed:
    """A net called with native steps t (N,) in 1..T, which it gets on the scale 0..1000; its output is float32."""

    net: nn.Module
    steps: int
    device: Device
    condition: Tensor | None = None
    """(N, K, H, W) in [-1, 1], joined to the channels of the net's input; None for a net without one."""
    recalls: bool = False
    """Whether it is self-conditioned: it takes a clean estimate as well, after the condition."""
    previous: Tensor | None = None
    """That estimate (N, C, H, W); None: zeros."""

    def given(self, condition: Tensor | None) -> Timed:
        """The same net under a condition."""
        return replace(self, condition=condition)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, C, H, W), t (N,) int64 -> (N, C, H, W) float32."""
        seen = x if self.condition is None else torch.cat([x, self.condition], dim=1)
        if self.recalls:
            seen = torch.cat([seen, torch.zeros_like(x) if self.previous is None else self.previous], dim=1)
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

    def told(self, previous: Tensor | None) -> NetDenoiser:
        """The same self-conditioned net with a clean estimate (N, C, H, W) of before; None: zeros."""
        return replace(self, net=replace(self.net, previous=previous))

    def along_a_walk(self) -> Denoiser:
        """The net for the steps of one walk: a self-conditioned one is told what it said at the step before."""
        return Recalling(self) if self.net.recalls else self

    def output(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> what the net predicts, same shape."""
        return self.net(net_input(self.prediction, x_t, t, self.schedule), t)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> the clean estimate, same shape."""
        return clean_estimate(self.prediction, self.output(x_t, t), x_t, t, self.schedule)
