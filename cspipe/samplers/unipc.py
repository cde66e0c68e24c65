"""UniPC-3 (Zhao et al. 2023): predictor and corrector on the clean estimate, with B(h) = e^-h - 1 (bh2).

The estimate at x_t corrects x_t itself, by the step that led there, and then predicts x_s from it: one call of the net
a step. The order rises 1, 2, 3 with the memory, and falls to 1 at the last step.

The memory is the last three estimates, the last state, and what was predicted from it. What a correction adds to a
state after its step is added to UniPC's corrected state as well, which would otherwise replace it. With an estimate
that never changes, the corrected trajectory is then DDIM's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.sampling.state import SamplerState

ETAS = (0.0, 0.0)
REMEMBERS, CORRECTS_ESTIMATES = True, False
ORDER = 3


@dataclass(frozen=True)
class Estimate:
    """Clean estimate x0_hat (N, C, H, W) of the net, and its timestep t (N,)."""

    x0_hat: Tensor
    t: Tensor


@dataclass(frozen=True)
class Memory:
    """Values that a step keeps for the next one."""

    number: int
    """Number of the step, from 0."""
    x: Tensor
    """Corrected state at the start of the step."""
    predicted: Tensor
    """State that the step predicted for its end."""
    order: int
    """Number of estimates that the step used."""
    estimates: list[Estimate]
    """The last estimates, at most ORDER, newest first."""


def step(x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, state: SamplerState) -> Tensor:
    """Return the predicted x_s; images (N, C, H, W), timesteps (N,)."""
    number, newest, older = 0, Estimate(x0_hat, t), []
    if state.history:
        (last,) = state.history
        number, older = last.number + 1, last.estimates
        corrected = move(last.x, older[: last.order], t, state.schedule, newest)
        x_t = corrected + (x_t - last.predicted)
    estimates = [newest, *older][:ORDER]
    order = min(len(estimates), len(state) - number)
    predicted = move(x_t, estimates[:order], s, state.schedule)
    state.history = [Memory(number, x_t, predicted, order, estimates)]
    return predicted


def move(x: Tensor, estimates: list[Estimate], s: Tensor, schedule: Schedule, there: Estimate | None = None) -> Tensor:
    """Step from x, the state of the first estimate, to s: by UniP, or by UniC if `there`, the estimate at s, is given.

    Return ddim + kappa * sum_k rho_k D_k, D_k the difference of the k-th estimate to the first over their distance r_k.
    """
    first, *others = estimates if there is None else [*estimates, there]
    x_s = ddim_step(x, first.x0_hat, first.t, s, schedule)
    if not others:
        return x_s
    start = schedule.half_log_snr(first.t)
    h = schedule.half_log_snr(s) - start
    distances = [(schedule.half_log_snr(other.t) - start) / h for other in others]
    kappa = schedule.kappa(first.t, s)
    for other, distance, rho in zip(others, distances, rhos(distances, h), strict=True):
        x_s = x_s + per_image(kappa * rho / distance).to(x.dtype) * (other.x0_hat - first.x0_hat)
    return x_s


def rhos(distances: list[Tensor], h: Tensor) -> list[Tensor]:
    """Return rho_k (N,) for r_k (N,), float64: sum_k rho_k r_k^(i-1) = b_i for all i; 1/2 for one r, as published."""
    if len(distances) == 1:
        return [torch.full_like(h, 0.5)]
    rows, b = [], []
    phi, factorial = torch.expm1(-h) / -h - 1, 1
    for i in range(len(distances)):
        rows.append(torch.stack([distance**i for distance in distances], dim=1))
        b.append(phi * factorial / torch.expm1(-h))
        factorial *= i + 2
        phi = phi / -h - 1 / factorial
    # solve_ex does not check for errors: a check would wait for the device.
    solved, _ = torch.linalg.solve_ex(torch.stack(rows, dim=1), torch.stack(b, dim=1))
    return list(solved.unbind(dim=1))
