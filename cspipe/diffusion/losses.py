"""What the nets learn from: the plain and the compensated training pair, and the loss of the module."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cspipe.diffusion.corrections import AfterStep
from cspipe.diffusion.process import Prediction, diffuse, noise_in, training_target
from cspipe.diffusion.samplers.ddim import ddim_step
from cspipe.diffusion.schedule import Schedule

Pair = tuple[Tensor, Tensor, Tensor]
"""(input state, its step, the net's target there)."""


def plain_pair(prediction: Prediction, x0: Tensor, e: Tensor, t: Tensor, schedule: Schedule) -> Pair:
    """x_t from the forward process and its target (Ho et al. 2020, algorithm 1)."""
    return diffuse(x0, e, t, schedule), t, training_target(prediction, x0, e, t, schedule)


@torch.no_grad()
def compensated_pair(
    prediction: Prediction, x0: Tensor, x_t: Tensor, x0h: Tensor, t: Tensor, schedule: Schedule, cs: AfterStep
) -> Pair:
    """The net's own compensated reverse step from t to s = t - 1, and the target there (arXiv 2312.06285).

    x_t from the forward process of x0, x0h the net's clean estimate there, t in 2..T. The target is for the noise e'
    that the compensated state really holds: e' = (xs - sqrt(ab_s) x0) / sqrt(1 - ab_s). With C = x0 - x0h (the oracle)
    it is the plain pair at s.
    """
    s = t - 1
    x_s = cs(ddim_step(x_t, x0h, t, s, schedule), x0h, t, s)
    return x_s, s, training_target(prediction, x0, noise_in(x_s, x0, s, schedule), s, schedule)


def module_loss(c: Tensor, x0: Tensor, x0h: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """Mean distance between C(x0h, t) and what it should be, x0 - x0h; images (N, C, H, W) -> scalar."""
    error = c - (x0 - x0h)
    return error.abs().mean() if norm == "l1" else error.square().mean()
