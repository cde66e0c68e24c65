"""The random part of a step, drawn for the whole batch at once: micro-batches of any size see the same numbers.

Dropout alone draws others with another size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.data.seeds import derive_seed
from cspipe.runtime.ranks import rank, world
from cspipe.training.stream import Batch
from cspipe.training.timesteps import TimestepPath, index_of


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
class TrainSampler:
    """Draws a TrainSample for each step."""

    seed: int
    t_max: int
    """T, or the highest timestep that is trained."""
    flip: bool
    """Mirror half of the images."""
    path: TimestepPath | None = None
    """Of the images that take the path of the training method; None if none does."""
    cumulative: Tensor | None = None
    """(t_max,) P(timestep <= t) for t = 1..t_max, on the device; None: all are as likely."""
    perturbed: bool = False
    draws_z: bool = False

    def __call__(self, batch: Batch, seen: int, share: float = 0.0) -> TrainSample:
        """eps ~ N(0, I) and t uniform in 1..t_max or by `cumulative`; on the method's path the timestep trained at too.

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
            on_method -= int(self.path.top_share * on_path + (step_seed >> 21) % 2**20 / 2**20)
        on_method, on_path = (len(range(rank(), count, world())) for count in (on_method, on_path))
        t, timesteps = 1 + index_of(u, self.t_max, self.cumulative), None
        if self.path is not None and on_path:
            timesteps = self.path.down(u[:on_method])
            t = torch.cat([timesteps[0], self.path.top(u[on_method:on_path]), t[on_path:]])
        if self.flip:
            mirrored = mirror.reshape(-1, 1, 1, 1) < 0.5
            x0 = torch.where(mirrored, x0.flip(3), x0)
            condition = None if condition is None else torch.where(mirrored, condition.flip(3), condition)
        xi, z = gauss() if self.perturbed else None, gauss() if self.draws_z else None
        return TrainSample(x0, condition, t, eps, on_method, timesteps, xi, z, self_cond=bool(step_seed >> 20 & 1))
