"""RePaint (Lugmayr et al. 2022): inpainting with a net that was trained without conditions.

After every step the known pixels are put back, with the noise of that timestep; going back up and down again lets the
filled pixels agree with the known ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.diffusion.process import add_noise, per_image
from cspipe.diffusion.schedule import Schedule


@dataclass(frozen=True)
class Known:
    """The given part of images: x0 (N, C, H, W) in [-1, 1] wherever `hole` (N, 1, H, W) is false."""

    x0: Tensor
    hole: Tensor

    def put_back(self, x_s: Tensor, s: Tensor, z: Tensor, schedule: Schedule) -> Tensor:
        """Return x_s in the hole and the forward process of x0 with noise z elsewhere (eq. 8); at s = 0, x0 itself."""
        return torch.where(self.hole, x_s, add_noise(self.x0, z, s, schedule))


def renoise(x_s: Tensor, s: Tensor, t: Tensor, z: Tensor, schedule: Schedule) -> Tensor:
    """Draw x_t from q(x_t | x_s) for t > s: sqrt(ab_t / ab_s) x_s + sqrt(1 - ab_t / ab_s) z."""
    ratio = schedule.sqrt_alpha_bar[t] / schedule.sqrt_alpha_bar[s]
    return per_image(ratio) * x_s + per_image((1 - ratio.square()).sqrt()) * z


def resampled(steps: Sequence[int], rounds: int) -> list[int]:
    """Return the path in which every falling step is taken `rounds` times, back at its start before each repetition."""
    path = [steps[0]]
    for t, s in zip(steps[:-1], steps[1:], strict=True):
        path += [s, t] * (rounds - 1) + [s]
    return path
