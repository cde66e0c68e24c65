"""What a net learns from compensated pairs: what it could know one step earlier (docs/METHOD.md), for Gaussian data."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from cspipe.compensation import Compensation, Weighting, compensated_pair
from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import add_noise
from cspipe.diffusion.schedule import cosine_schedule
from cspipe.diffusion.training_pair import plain_pair

VARIANCE = 0.25
# Four images of a pixel whose second moments, all that a linear net sees, are those of independent Gaussians.
X0 = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64).view(4, 1, 1, 1) * VARIANCE**0.5
EPS = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64).view(4, 1, 1, 1)


def at(t: int) -> Tensor:
    return torch.full((4,), t)


def linear(x: Tensor, target: Tensor) -> float:
    """The least squares d of target = d x: what training to the end finds."""
    return float((x * target).sum() / x.square().sum())


@pytest.mark.parametrize(
    ("steps", "plain", "compensated"),
    [(10, 0.729, 0.488), (20, 0.854, 0.681), (100, 0.969, 0.916), (1000, 0.997, 0.991)],
)
def test_a_net_is_one_step_behind(steps: int, plain: float, compensated: float) -> None:
    schedule = cosine_schedule(steps)
    nothing = Compensation(lambda x0_hat, t: 0 * x0_hat, schedule, Weighting(weight="kappa", scale=1.0, cap=None))
    pairs = [plain_pair("x0", X0, EPS, at(t), schedule) for t in range(1, steps + 1)]
    best = {t: linear(pair.x, pair.target) for t, pair in enumerate(pairs, 1)}
    behind = {steps: best[steps]}
    for t in range(steps, 1, -1):
        x_t = add_noise(X0, EPS, at(t), schedule)
        pair = compensated_pair(X0, x_t, behind[t] * x_t, at(t), at(t - 1), "x0", nothing)
        behind[t - 1] = linear(pair.x, pair.target)
        assert torch.allclose(behind[t - 1] * pair.x, best[t] * x_t)  # its estimate is that of t
    for net, share in ((best, plain), (behind, compensated)):
        x = EPS
        for t, s in itertools.pairwise(range(steps, -1, -1)):
            x = ddim_step(x, net[t] * x, at(t), at(s), schedule)
        assert float(x.square().mean()) / VARIANCE == pytest.approx(share, abs=5e-4)
