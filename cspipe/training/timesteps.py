"""Timesteps of training: how likely each is, and the path of the reverse steps of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.schedule import Schedule

LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2
"""Mean and standard deviation of ln sigma in EDM's training (Karras et al. 2022, table 1)."""


def lognormal(schedule: Schedule, t_max: int) -> Tensor:
    """Return P(timestep <= t) for t = 1..t_max, (t_max,), where ln sigma ~ N(LOG_SIGMA_MEAN, LOG_SIGMA_STD^2).

    sigma = sqrt(1 - ab) / sqrt(ab); ln sigma goes to the nearest level. The result is on the schedule's device.
    """
    log_sigma = -schedule.half_log_snr(torch.arange(1, t_max + 1, device=schedule.sqrt_alpha_bar.device))
    edges = (log_sigma[1:] + log_sigma[:-1]) / 2
    below = torch.special.ndtr((edges - LOG_SIGMA_MEAN) / LOG_SIGMA_STD)
    return torch.cat([below, below.new_ones(1)]).float()


def index_of(u: Tensor, count: int, cumulative: Tensor | None) -> Tensor:
    """Map uniform u (N,) in 0..1 to indices 0..count - 1: all equally likely, or distributed by cumulative (count,)."""
    return (u * count).long() if cumulative is None else torch.searchsorted(cumulative, u.contiguous(), right=True)


@dataclass(frozen=True)
class TimestepPath:
    """The path of a sampler through the native timesteps: reverse steps of training go `gap` steps down it."""

    timesteps: Tensor
    """Timesteps of the path, rising from 0, on the device."""
    gap: int
    tops: int
    """Number of the highest trained timesteps, at which no reverse step ends."""
    top_share: float
    """Probability of the `tops` highest among the trained timesteps of the path."""
    cumulative: Tensor | None
    """Cumulative probabilities of the timesteps at which steps end, rising; None: all are equally likely."""
    top_cumulative: Tensor | None
    """Cumulative probabilities of the `tops` highest trained timesteps, rising; None: all are equally likely."""

    @staticmethod
    def of(
        native: int, steps: int | None, gap: int, t_max: int, device: torch.device, cumulative: Tensor | None = None
    ) -> TimestepPath:
        """Make the path that a sampler takes in `steps` of `native` steps; None: in all. No step ends above t_max.

        `cumulative` (t_max,) is of all timesteps: those between two on the path count for the higher, those above it
        for none.
        """
        timesteps = evenly_spaced(native, steps or native)[::-1]
        trained = sum(t <= t_max for t in timesteps)
        tops = max(0, gap - (len(timesteps) - trained))
        ends, top_share = trained - 1 - tops, tops / (trained - 1)
        timesteps_on_device = torch.tensor(timesteps[: trained + gap], device=device)
        if cumulative is None:
            return TimestepPath(timesteps_on_device, gap, tops, top_share, None, None)
        on_path = cumulative[timesteps_on_device[1:trained] - 1]
        on_path, below = on_path / on_path[-1], on_path[ends - 1] / on_path[-1]
        top_cumulative = (on_path[ends:] - below) / (1 - below)
        return TimestepPath(timesteps_on_device, gap, tops, 1 - float(below), on_path[:ends] / below, top_cumulative)

    def down(self, u: Tensor) -> Tensor:
        """Map uniform u (N,) in 0..1 to timesteps (gap + 1, N), neighbours on the path, falling, the last above 0."""
        count = self.gap + 1
        start = count + index_of(u, len(self.timesteps) - count, self.cumulative)
        return torch.stack([self.timesteps[start - down] for down in range(count)])

    def top(self, u: Tensor) -> Tensor:
        """Map uniform u (N,) in 0..1 to the `tops` highest trained timesteps of the path, at which no step ends."""
        return self.timesteps[len(self.timesteps) - self.gap + index_of(u, self.tops, self.top_cumulative)]
