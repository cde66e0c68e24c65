"""The random part of a step, drawn for the whole batch at once: micro-batches of any size see the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.data.seeds import derive_seed
from cspipe.diffusion.ddim import evenly_spaced
from cspipe.runtime.ranks import rank, world
from cspipe.training.stream import Batch


@dataclass(frozen=True)
class TrainSample:
    """A batch with its timesteps and noise; the first `on_method` images take the path of the training method."""

    x0: Tensor
    condition: Tensor | None
    t: Tensor
    eps: Tensor
    on_method: int = 0
    timesteps: Tensor | None = None
    """(gap + 1, on_method) native timesteps of these images, from t down to s; None if there are none."""
    xi: Tensor | None = None
    """Noise of the input perturbation."""
    z: Tensor | None = None
    """Noise that the training method asks for."""
    self_cond: bool = False
    """Whether a self-conditioned net sees its estimate, rather than zeros: in half of the steps."""

    def slice(self, start: int, stop: int) -> TrainSample:
        """Images start..stop of the batch."""
        on_method = min(max(self.on_method - start, 0), stop - start)

        def cut(images: Tensor | None) -> Tensor | None:
            """Those images of a tensor, if there is one."""
            return None if images is None else images[start:stop]

        return TrainSample(
            self.x0[start:stop],
            cut(self.condition),
            self.t[start:stop],
            self.eps[start:stop],
            on_method,
            None if self.timesteps is None else self.timesteps[:, start : start + on_method],
            cut(self.xi),
            cut(self.z),
            self.self_cond,
        )


@dataclass(frozen=True)
class TimestepPath:
    """Where reverse steps of training start and end: `gap` steps down a sampler's path of the native timesteps."""

    timesteps: Tensor
    """Of the path, rising from 0, on the device."""
    gap: int
    tops: int
    """How many of the highest are trained and end no step."""

    @staticmethod
    def of(native: int, steps: int | None, gap: int, t_max: int, device: torch.device) -> TimestepPath:
        """The path that a sampler of `steps` steps takes over `native` ones; None: all. No step ends above t_max."""
        timesteps = evenly_spaced(native, steps or native)[::-1]
        trained = sum(t <= t_max for t in timesteps)
        tops = max(0, gap - (len(timesteps) - trained))
        return TimestepPath(torch.tensor(timesteps[: trained + gap], device=device), gap, tops)

    def down(self, u: Tensor) -> Tensor:
        """Uniform u (N,) in 0..1 to timesteps (gap + 1, N), neighbours on the path, falling, the last above 0."""
        count = self.gap + 1
        start = count + (u * (len(self.timesteps) - count)).long()
        return torch.stack([self.timesteps[start - down] for down in range(count)])

    def top(self, u: Tensor) -> Tensor:
        """Uniform u (N,) in 0..1 to the highest timesteps, t_max among them, if no step of the path ends there."""
        return self.timesteps[len(self.timesteps) - self.gap + (u * self.tops).long()]


@dataclass(frozen=True)
class TrainSampler:
    """Draws a TrainSample for each step."""

    seed: int
    t_max: int
    """T, or the highest timestep that is trained."""
    flip: bool
    """Mirror half of the images."""
    path: TimestepPath | None = None
    """Of the images that take the path of the training method; None if none does."""
    perturbed: bool = False
    draws_z: bool = False

    def __call__(self, batch: Batch, seen: int, share: float = 0.0) -> TrainSample:
        """eps ~ N(0, I) and t uniform in 1..t_max; on the method's path the timestep trained at is uniform over it.

        Everything follows from (seed, seen). The number of images on that path has mean share * N. Those due to the
        timesteps at which no step of the path ends stay plain, there: every method trains at the same t. Also seeds
        torch's global generators, from which dropout draws.

        Of W ranks each draws for all W * N images and takes every W-th: they share what takes the method's path, and
        see the numbers that one process would. Dropout alone is another in each.
        """
        x0, condition = batch
        step_seed = derive_seed(self.seed, "step", seen)
        torch.manual_seed(derive_seed(self.seed, "dropout", seen) ^ rank())
        generator = torch.Generator(x0.device).manual_seed(step_seed)

        def gauss() -> Tensor:
            """N(0, I) in the shape of the images."""
            return torch.randn((n, *x0.shape[1:]), generator=generator, device=x0.device)[ours].contiguous()

        n, ours = len(x0) * world(), slice(rank(), None, world())
        u, mirror = torch.rand((2, n), generator=generator, device=x0.device)[:, ours]
        eps = gauss()
        on_method = on_path = int(share * n + (step_seed % 2**20) / 2**20)
        if self.path is not None and on_path:
            share_of_top = self.path.tops / (len(self.path.timesteps) - self.path.gap + self.path.tops - 1)
            on_method -= int(share_of_top * on_path + (step_seed >> 21) % 2**20 / 2**20)
        on_method, on_path = (len(range(rank(), count, world())) for count in (on_method, on_path))
        t, timesteps = 1 + (u * self.t_max).long(), None
        if self.path is not None and on_path:
            timesteps = self.path.down(u[:on_method])
            t = torch.cat([timesteps[0], self.path.top(u[on_method:on_path]), t[on_path:]])
        if self.flip:
            mirrored = mirror.reshape(-1, 1, 1, 1) < 0.5
            x0 = torch.where(mirrored, x0.flip(3), x0)
            condition = None if condition is None else torch.where(mirrored, condition.flip(3), condition)
        xi, z = gauss() if self.perturbed else None, gauss() if self.draws_z else None
        return TrainSample(x0, condition, t, eps, on_method, timesteps, xi, z, self_cond=bool(step_seed >> 20 & 1))
