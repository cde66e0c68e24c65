"""Which timesteps are trained at: how likely each is, and the path that reverse steps of training take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.diffusion.ddim import evenly_spaced
from cspipe.diffusion.schedule import Schedule

LOG_SIGMA_MEAN, LOG_SIGMA_STD = -1.2, 1.2
"""Of ln sigma in EDM's training (Karras et al. 2022, table 1)."""


def lognormal(schedule: Schedule, t_max: int) -> Tensor:
    """(t_max,) P(timestep <= t) for t = 1..t_max: ln sigma ~ N(LOG_SIGMA_MEAN, LOG_SIGMA_STD^2), to the nearest level.

    sigma = sqrt(1 - ab) / sqrt(ab); on the schedule's device.
    """
    log_sigma = -schedule.half_log_snr(torch.arange(1, t_max + 1, device=schedule.sqrt_alpha_bar.device))
    edges = (log_sigma[1:] + log_sigma[:-1]) / 2
    below = torch.special.ndtr((edges - LOG_SIGMA_MEAN) / LOG_SIGMA_STD)
    return torch.cat([below, below.new_ones(1)]).float()


def index_of(u: Tensor, count: int, cumulative: Tensor | None) -> Tensor:
    """Uniform u (N,) in 0..1 to 0..count - 1: all as likely, or as cumulative (count,) says."""
    return (u * count).long() if cumulative is None else torch.searchsorted(cumulative, u.contiguous(), right=True)


@dataclass(frozen=True)
class TimestepPath:
    """Where reverse steps of training start and end: `gap` steps down a sampler's path of the native timesteps."""

    timesteps: Tensor
    """Of the path, rising from 0, on the device."""
    gap: int
    tops: int
    """How many of the highest are trained and end no step."""
    top_share: float
    """How likely these are."""
    cumulative: Tensor | None
    """Of the timesteps that end steps, rising: how likely each or one below is; None: all are as likely."""
    top_cumulative: Tensor | None
    """The same of the `tops` highest."""

    @staticmethod
    def of(
        native: int, steps: int | None, gap: int, t_max: int, device: torch.device, cumulative: Tensor | None = None
    ) -> TimestepPath:
        """The path that a sampler of `steps` steps takes over `native` ones; None: all. No step ends above t_max.

        `cumulative` (t_max,) of all timesteps: those between two on the path count for the higher, those above it for
        none.
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
        """Uniform u (N,) in 0..1 to timesteps (gap + 1, N), neighbours on the path, falling, the last above 0."""
        count = self.gap + 1
        start = count + index_of(u, len(self.timesteps) - count, self.cumulative)
        return torch.stack([self.timesteps[start - down] for down in range(count)])

    def top(self, u: Tensor) -> Tensor:
        """Uniform u (N,) in 0..1 to the highest trained timesteps of the path, at which none of its steps ends."""
        return self.timesteps[len(self.timesteps) - self.gap + index_of(u, self.tops, self.top_cumulative)]
