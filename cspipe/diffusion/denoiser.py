"""Nets as the mathematics sees them: functions of an image and a native timestep."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from cspipe.diffusion.process import Denoiser, Prediction, clean_estimate, net_input
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.device import Device


@dataclass(frozen=True)
class TimestepScaledNet:
    """A net called with native steps t (N,) in 1..T, which it sees on the scale 0..1000; its output is float32."""

    net: nn.Module
    steps: int
    device: Device
    condition: Tensor | None = None
    """(N, K, H, W) in [-1, 1], joined to the channels of the net's input; None for a net without one."""
    self_conditioned: bool = False
    """Whether it takes a clean estimate as well, after the condition."""
    self_cond: Tensor | None = None
    """That estimate (N, C, H, W); None: zeros."""
    multiple: int = 1
    """Compiled and without gradient it sees multiples of so many images, the rest zeros: few sizes, a graph each."""

    def with_condition(self, condition: Tensor | None) -> TimestepScaledNet:
        """The same net under a condition."""
        return replace(self, condition=condition)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, C, H, W), t (N,) int64 -> (N, C, H, W) float32."""
        inputs = x if self.condition is None else torch.cat([x, self.condition], dim=1)
        if self.self_conditioned:
            inputs = torch.cat([inputs, torch.zeros_like(x) if self.self_cond is None else self.self_cond], dim=1)
        extra = 0 if torch.is_grad_enabled() or not self.device.compile else -len(t) % self.multiple
        if extra:
            inputs, t = pad(inputs, (0, 0, 0, 0, 0, 0, 0, extra)), pad(t, (0, extra))
        with self.device.autocast():
            output: Tensor = self.net(inputs, t * (1000 / self.steps))
        return output[: len(x)].float()


@dataclass(frozen=True)
class NetDenoiser:
    """(x_t, t) -> x0_hat in [-1, 1], from the main net and what it predicts."""

    net: TimestepScaledNet
    prediction: Prediction
    schedule: Schedule

    def with_condition(self, condition: Tensor | None) -> NetDenoiser:
        """The same net under a condition (N, K, H, W) in [-1, 1]."""
        return replace(self, net=self.net.with_condition(condition))

    def with_self_cond(self, x0_hat: Tensor | None) -> NetDenoiser:
        """The same self-conditioned net with a clean estimate (N, C, H, W) of before; None: zeros."""
        return replace(self, net=replace(self.net, self_cond=x0_hat))

    def along_trajectory(self, first: Tensor | None = None) -> Denoiser:
        """The net for the steps of one trajectory: a self-conditioned one sees its estimate of the step before.

        `first` (C, H, W) is what it sees when it is asked first; None: zeros.
        """
        return SelfConditioned(self, first) if self.net.self_conditioned else self

    def output(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> what the net predicts, same shape."""
        return self.net(net_input(self.prediction, x_t, t, self.schedule), t)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> the clean estimate, same shape."""
        return clean_estimate(self.prediction, self.output(x_t, t), x_t, t, self.schedule)


class SelfConditioned:
    """Self-conditioning along one trajectory (Chen et al. 2023): `first` (None: zeros), then the estimate before."""

    def __init__(self, denoise: NetDenoiser, first: Tensor | None = None) -> None:
        self.denoise = denoise
        self.x0_hat = first

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x_t (N, C, H, W), t (N,) int64 -> the clean estimate, kept for the next call."""
        before = None if self.x0_hat is None else self.x0_hat.expand_as(x_t)
        self.x0_hat = self.denoise.with_self_cond(before)(x_t, t)
        return self.x0_hat
