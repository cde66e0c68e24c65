"""Wrappers that make nets functions of an image and a native timestep."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.parallel import DistributedDataParallel

from cspipe.diffusion.process import Denoiser, Prediction, clean_estimate, net_input
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.device import Device
from cspipe.runtime.errors import UserError


@dataclass(frozen=True)
class TimestepScaledNet:
    """A net called with native steps t (N,) in 1..T, which are rescaled to 0..1000 for it; its output is float32."""

    net: nn.Module
    steps: int
    device: Device
    condition: Tensor | None = None
    """Condition (N, K, H, W) in [-1, 1], appended to the channels of the net's input; None: no condition."""
    self_conditioned: bool = False
    """Whether the net takes a clean estimate as well, in the channels after the condition."""
    self_cond: Tensor | None = None
    """Clean estimate (N, C, H, W) for a self-conditioned net; None: zeros."""
    multiple: int = 1
    """Images: without gradient, a compiled net gets batches zero-padded to multiples of this; each size has a graph."""

    def with_condition(self, condition: Tensor | None) -> TimestepScaledNet:
        """Return the same net under a condition (N, K, H, W) in [-1, 1]."""
        return replace(self, condition=condition)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the net's output (N, C, H, W) float32 at x (N, C, H, W) and t (N,) int64.

        Raises UserError, naming the net's file, if the output has another shape than x.
        """
        inputs = x if self.condition is None else torch.cat([x, self.condition], dim=1)
        if self.self_conditioned:
            inputs = torch.cat([inputs, torch.zeros_like(x) if self.self_cond is None else self.self_cond], dim=1)
        extra = 0 if torch.is_grad_enabled() or not self.device.compile else -len(t) % self.multiple
        if extra:
            inputs, t = pad(inputs, (0, 0, 0, 0, 0, 0, 0, extra)), pad(t, (0, extra))
        with self.device.autocast():
            output: Tensor = self.net(inputs, t * (1000 / self.steps))
        expected = (len(inputs), *x.shape[1:])
        if output.shape != expected:  # otherwise it could be broadcast
            net = getattr(self.net, "_orig_mod", self.net)  # what torch.compile wraps
            place = type(net.module if isinstance(net, DistributedDataParallel) else net).__module__
            raise UserError(f"{place}: the net returned {tuple(output.shape)}; it must return {expected}")
        return output[: len(x)].float()


@dataclass(frozen=True)
class NetDenoiser:
    """Denoiser (x_t, t) -> x0_hat in [-1, 1], which computes x0_hat from the main net's prediction."""

    net: TimestepScaledNet
    prediction: Prediction
    schedule: Schedule

    def with_condition(self, condition: Tensor | None) -> NetDenoiser:
        """Return the same denoiser under a condition (N, K, H, W) in [-1, 1]."""
        return replace(self, net=self.net.with_condition(condition))

    def with_self_cond(self, x0_hat: Tensor | None) -> NetDenoiser:
        """Return the same denoiser, self-conditioned on an earlier clean estimate (N, C, H, W); None: zeros."""
        return replace(self, net=replace(self.net, self_cond=x0_hat))

    def along_trajectory(self, first: Tensor | None = None) -> Denoiser:
        """Return the denoiser for one trajectory: a self-conditioned net is given its estimate of the step before.

        `first` (C, H, W) is the estimate given at the first call; None: zeros.
        """
        return SelfConditioned(self, first) if self.net.self_conditioned else self

    def output(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the net's prediction at x_t (N, C, H, W) and t (N,) int64, in the shape of x_t."""
        return self.net(net_input(self.prediction, x_t, t, self.schedule), t)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the clean estimate at x_t (N, C, H, W) and t (N,) int64, in the shape of x_t."""
        return clean_estimate(self.prediction, self.output(x_t, t), x_t, t, self.schedule)


class SelfConditioned:
    """Denoiser self-conditioned on its last estimate, at first on `first` (None: zeros) (Chen et al. 2023)."""

    def __init__(self, denoise: NetDenoiser, first: Tensor | None = None) -> None:
        self.denoise = denoise
        self.x0_hat = first

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the clean estimate at x_t (N, C, H, W) and t (N,) int64, and keep it for the next call."""
        before = None if self.x0_hat is None else self.x0_hat.expand_as(x_t)
        self.x0_hat = self.denoise.with_self_cond(before)(x_t, t)
        return self.x0_hat
