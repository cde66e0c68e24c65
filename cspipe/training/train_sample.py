"""The random part of a step, drawn for the whole batch at once: micro-batches of any size see the same numbers.

Only dropout draws other numbers with another micro-batch size.
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
    """(gap + 1, on_method) native timesteps, t down to s, of the first `on_method` images; None if there are none."""
    xi: Tensor | None = None
    """Noise of the input perturbation, in the shape of x0; None without perturbation."""
    z: Tensor | None = None
    """Noise for the training method, in the shape of x0; None if it draws none."""
    self_cond: bool = False
    """Whether a self-conditioned net gets its estimate, rather than zeros: in half of the steps."""

    def slice(self, start: int, stop: int) -> TrainSample:
        """Return the part of the sample with images start..stop."""
        on_method = min(max(self.on_method - start, 0), stop - start)

        def cut(images: Tensor | None) -> Tensor | None:
            """Return images start..stop of a tensor, or None for None."""
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
    """Highest timestep that is trained, at most T."""
    flip: bool
    """Whether half of the images are mirrored."""
    path: TimestepPath | None = None
    """Timestep path of the training method's reverse steps; None: no image takes reverse steps."""
    cumulative: Tensor | None = None
    """P(timestep <= t) for t = 1..t_max, (t_max,), on the device; None: all timesteps are equally likely."""
    perturbed: bool = False
    draws_z: bool = False

    def __call__(self, batch: Batch, seen: int, share: float = 0.0) -> TrainSample:
        """Draw eps ~ N(0, I) and the timestep trained at, t or the method's s, uniform in 1..t_max or by `cumulative`.

        Everything follows from (seed, seen). The number of images on the method's path has mean share * N. Those that
        fall on timesteps at which no step of the path ends are trained plainly there, so that every method trains at
        the same t. The call also seeds torch's global generators, from which dropout draws.

        Each of W ranks draws for all W * N images and takes every W-th: the ranks share the images on the method's
        path, and use the numbers that one process would. Only dropout differs between ranks.
        """
        x0, condition = batch
        step_seed = derive_seed(self.seed, "step", seen)
        torch.manual_seed(derive_seed(self.seed, "dropout", seen) ^ rank())
        generator = torch.Generator(x0.device).manual_seed(step_seed)

        def gauss() -> Tensor:
            """Draw N(0, I) in the shape of the images."""
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
