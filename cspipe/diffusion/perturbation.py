"""Input perturbation (Ning et al. 2023): the net sees a little more noise than it is asked for."""

from __future__ import annotations

from torch import Tensor

from cspipe.diffusion.process import per_image
from cspipe.diffusion.schedule import Schedule


def perturb(x_t: Tensor, xi: Tensor, t: Tensor, gamma: float, schedule: Schedule) -> Tensor:
    """x_t + gamma sqrt(1 - ab_t) xi, xi ~ N(0, I): a forward state made from e + gamma xi, while the target stays e."""
    return x_t + per_image(gamma * schedule.noise[t]) * xi
