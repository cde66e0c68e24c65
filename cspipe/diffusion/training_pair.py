"""Training pairs of the main net: states of any origin and the targets that belong to them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from cspipe.diffusion.process import Prediction, add_noise, eps_from_x0, per_image, training_target
from cspipe.diffusion.schedule import Schedule


class TrainingPair(NamedTuple):
    """States (N, C, H, W), their timesteps (N,), the net's targets there, and the weight of each image in the loss."""

    x: Tensor
    t: Tensor
    target: Tensor
    weight: Tensor

    def loss(self, output: Tensor, norm: Literal["l1", "l2"] = "l2") -> Tensor:
        """Return the weighted mean distance of output and target, a scalar; the mean minimises l2, the median l1."""
        error = output - self.target
        distance = error.abs() if norm == "l1" else error.square()
        return (distance.flatten(1).mean(1) * self.weight).mean()

    def replace_first(self, other: TrainingPair) -> TrainingPair:
        """Return the pair with its first images replaced by all images of `other`."""
        count = len(other.t)
        return TrainingPair(*(torch.cat([new, old[count:]]) for new, old in zip(other, self, strict=True)))


def plain_pair(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule) -> TrainingPair:
    """Return x_t from the forward process and its target (Ho et al. 2020, algorithm 1)."""
    target = training_target(prediction, x0, eps, t, schedule)
    return TrainingPair(add_noise(x0, eps, t, schedule), t, target, x0.new_ones(len(t)))


def pair_at(prediction: Prediction, x0: Tensor, x_s: Tensor, s: Tensor, schedule: Schedule) -> TrainingPair:
    """Return state x_s and the target for the noise in it, (x_s - sqrt(ab_s) x0) / sqrt(1 - ab_s)."""
    target = training_target(prediction, x0, eps_from_x0(x_s, x0, s, schedule), s, schedule)
    return TrainingPair(x_s, s, target, x0.new_ones(len(s)))


def perturbed(pair: TrainingPair, xi: Tensor, gamma: float, schedule: Schedule) -> TrainingPair:
    """Add input perturbation (Ning et al. 2023): gamma sqrt(1 - ab_t) xi, xi ~ N(0, I), which the target ignores."""
    return pair._replace(x=pair.x + per_image(gamma * schedule.sqrt_one_minus_alpha_bar[pair.t]) * xi)
