"""What the nets learn from: training pairs of the main net, and the loss of the module."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cspipe.diffusion.process import Denoiser, Prediction, diffuse, noise_in, training_target
from cspipe.diffusion.schedule import Schedule
from cspipe.samplers.ddim import ddim_step


class Pair(NamedTuple):
    """Input states (N, C, H, W), their steps (N,), the net's targets there, and each image's weight in the loss."""

    x: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor

    def loss(self, output: Tensor) -> Tensor:
        """Weighted mean square of the net's output against the target: a scalar."""
        return ((output - self.target).square().flatten(1).mean(1) * self.weight).mean()

    def followed_by(self, other: Pair) -> Pair:
        """These images, then the others."""
        return Pair(*(torch.cat(both) for both in zip(self, other, strict=True)))

    def after(self, first: int) -> Pair:
        """Without the first images."""
        return Pair(*(part[first:] for part in self))


def plain_pair(prediction: Prediction, x0: Tensor, e: Tensor, t: Tensor, schedule: Schedule) -> Pair:
    """x_t from the forward process and its target (Ho et al. 2020, algorithm 1)."""
    target = training_target(prediction, x0, e, t, schedule)
    return Pair(diffuse(x0, e, t, schedule), t, target, x0.new_ones(len(t)))


def pair_at(prediction: Prediction, x0: Tensor, x_s: Tensor, s: Tensor, schedule: Schedule) -> Pair:
    """A state of any origin, and the target for the noise e' = (x_s - sqrt(ab_s) x0) / sqrt(1 - ab_s) that it holds."""
    target = training_target(prediction, x0, noise_in(x_s, x0, s, schedule), s, schedule)
    return Pair(x_s, s, target, x0.new_ones(len(s)))


def simulated_state(denoise: Denoiser, x0: Tensor, e: Tensor, t: Tensor, schedule: Schedule) -> Tensor:
    """x_t as sampling meets it: the net's own DDIM step from the forward state at t + 1; at T the forward state."""
    above = (t + 1).clamp(max=schedule.steps)
    x = diffuse(x0, e, above, schedule)
    return ddim_step(x, denoise(x, above), above, t, schedule)


def module_loss(c: Tensor, x0: Tensor, x0h: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """Mean distance between C(x0h, t) and what it should be, x0 - x0h; images (N, C, H, W) -> scalar."""
    error = c - (x0 - x0h)
    return error.abs().mean() if norm == "l1" else error.square().mean()
