"""What a net learns from compensated pairs: what it could know one step earlier (docs/METHOD.md), for Gaussian data."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from cspipe.compensation import Compensation, Weighting, compensated_pair
from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import add_noise
from cspipe.diffusion.schedule import cosine_schedule
from cspipe.diffusion.training_pair import plain_pair

VARIANCE = 0.25
# Four images of a pixel whose second moments, all that a linear net sees, are those of independent unit Gaussians.
UNIT = torch.tensor([1.0, -1, 1, -1], dtype=torch.float64).view(4, 1, 1, 1)
EPS = torch.tensor([1.0, 1, -1, -1], dtype=torch.float64).view(4, 1, 1, 1)
Net = dict[int, float]
"""d_t by t: the estimate is d_t x_t."""


def at(t: int) -> Tensor:
    return torch.full((4,), t)


def linear(x: Tensor, target: Tensor) -> float:
    """The least squares d of target = d x: what training to the end finds."""
    return float((x * target).sum() / x.square().sum())


def trained(steps: int, variance: float) -> tuple[Net, Net]:
    """The nets of plain and of compensated training."""
    schedule, x0 = cosine_schedule(steps), UNIT * variance**0.5
    nothing = Compensation(lambda x0_hat, t: 0 * x0_hat, schedule, Weighting(weight="kappa", scale=1.0, cap=None))
    pairs = [plain_pair("x0", x0, EPS, at(t), schedule) for t in range(1, steps + 1)]
    best = {t: linear(pair.x, pair.target) for t, pair in enumerate(pairs, 1)}
    behind = {steps: best[steps]}
    for t in range(steps, 1, -1):
        x_t = add_noise(x0, EPS, at(t), schedule)
        pair = compensated_pair(x0, x_t, behind[t] * x_t, at(t), at(t - 1), "x0", nothing)
        behind[t - 1] = linear(pair.x, pair.target)
        assert torch.allclose(behind[t - 1] * pair.x, best[t] * x_t)  # its estimate is that of t
    return best, behind


def share(net: Net, steps: int, sampling_steps: int, variance: float) -> float:
    """Of the data's variance, that of samples."""
    x, schedule = EPS, cosine_schedule(steps)
    for t, s in itertools.pairwise(range(steps, -1, -steps // sampling_steps)):
        x = ddim_step(x, net[t] * x, at(t), at(s), schedule)
    return float(x.square().mean()) / variance


@pytest.mark.parametrize(
    ("steps", "plain", "compensated"),
    [(10, 0.729, 0.488), (20, 0.854, 0.681), (100, 0.969, 0.916), (1000, 0.997, 0.991)],
)
def test_a_net_is_one_step_behind(steps: int, plain: float, compensated: float) -> None:
    shares = [share(net, steps, steps, VARIANCE) for net in trained(steps, VARIANCE)]
    assert shares == pytest.approx([plain, compensated], abs=5e-4)


def test_c_can_undo_it_in_sampling() -> None:
    """Fit to the net of compensated training on forward states, C makes its estimates those of plain training."""
    best, behind = trained(10, VARIANCE)
    x0 = UNIT * VARIANCE**0.5
    for t, d in behind.items():
        x0_hat = d * add_noise(x0, EPS, at(t), cosine_schedule(10))
        assert d + linear(x0_hat, x0 - x0_hat) * d == pytest.approx(best[t])


@pytest.mark.parametrize(
    ("variance", "ten", "hundred", "two_steps"),
    [(0.25, 0.65, 0.10, 1.74), (0.1, 0.75, 0.12, 1.80), (0.04, 0.84, 0.14, 1.59), (0.01, 0.60, 0.11, 0.89)],
)
def test_variance_that_a_result_misses_is_a_higher_psnr(
    variance: float, ten: float, hundred: float, two_steps: float
) -> None:
    """Where the truth is one draw and the result another: an error of variance * (1 + share)."""

    def gain(net: Net, steps: int, sampling_steps: int) -> float:
        """In dB, on ten steps of plain training."""
        plain = share(trained(steps, variance)[0], steps, 10, variance)
        return 10 * math.log10((1 + plain) / (1 + share(net, steps, sampling_steps, variance)))

    (best, behind), late = trained(10, variance), trained(100, variance)[1]
    gains = [gain(behind, 10, 10), gain(late, 100, 10), gain(best, 10, 2)]
    assert gains == pytest.approx([ten, hundred, two_steps], abs=6e-3)
