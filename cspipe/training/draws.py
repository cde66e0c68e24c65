"""The random part of a step, drawn for the whole batch at once: micro-batches of any size see the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.data.seeds import derive_seed
from cspipe.sampling.reverse import subsequence
from cspipe.training.examples import Batch


@dataclass(frozen=True)
class Ladder:
    """Where reverse steps of training start and end: `gap` rungs down a sampler's path of the native steps."""

    rungs: Tensor
    """Native steps 0 .. T of the path, rising, on the device."""
    gap: int

    @staticmethod
    def of(steps: int, path: int | None, gap: int, device: torch.device) -> Ladder:
        """The path that a sampler of `path` steps takes over `steps` native ones; None: all of them."""
        return Ladder(torch.tensor(subsequence(steps, path or steps)[::-1], device=device), gap)

    def ways(self, u: Tensor) -> Tensor:
        """Uniform u (N,) in 0..1 to ways down (gap + 1, N), each from a rung above the gap, so that it ends above 0."""
        top = self.gap + 1
        start = top + (u * (len(self.rungs) - top)).long()
        return torch.stack([self.rungs[start - down] for down in range(top)])


@dataclass(frozen=True)
class Draw:
    """A batch with its steps and noise; the first `compensated` images take the path of the training method."""

    x0: Tensor
    condition: Tensor | None
    t: Tensor
    e: Tensor
    compensated: int = 0
    way: Tensor | None = None
    """(gap + 1, compensated) native steps of these images, from t down; None if there are none."""
    xi: Tensor | None = None
    """Noise of the input perturbation."""
    z: Tensor | None = None
    """Noise that the training method asks for."""
    recall: bool = False
    """Whether a self-conditioned net is told its estimate, rather than zeros: in half of the steps."""

    def slice(self, start: int, stop: int) -> Draw:
        """Images start..stop of the batch."""
        compensated = min(max(self.compensated - start, 0), stop - start)

        def cut(images: Tensor | None) -> Tensor | None:
            """Those images of a tensor, if there is one."""
            return None if images is None else images[start:stop]

        return Draw(
            self.x0[start:stop],
            cut(self.condition),
            self.t[start:stop],
            self.e[start:stop],
            compensated,
            None if self.way is None else self.way[:, start : start + compensated],
            cut(self.xi),
            cut(self.z),
            self.recall,
        )


@dataclass(frozen=True)
class Draws:
    """What is drawn for a step."""

    seed: int
    steps: int
    """T."""
    flip: bool
    """Mirror half of the pictures."""
    ladder: Ladder | None = None
    """Of the images that take the path of the training method; None if none does."""
    perturbed: bool = False
    noise: bool = False

    def __call__(self, batch: Batch, seen: int, share: float = 0.0) -> Draw:
        """e ~ N(0, I) and t uniform in 1..T; on the method's path ways down, uniform too.

        Everything follows from (seed, seen). The number of images on that path has mean share * N. Also seeds torch's
        global generators, from which dropout draws.
        """
        x0, condition = batch
        step_seed = derive_seed(self.seed, "step", seen)
        torch.manual_seed(step_seed)
        generator = torch.Generator(x0.device).manual_seed(step_seed)

        def gauss() -> Tensor:
            """N(0, I) in the shape of the images."""
            return torch.randn(x0.shape, generator=generator, device=x0.device)

        n = len(x0)
        u, mirror = torch.rand((2, n), generator=generator, device=x0.device)
        e = gauss()
        compensated = int(share * n + (step_seed % 2**20) / 2**20)
        t, way = 1 + (u * self.steps).long(), None
        if self.ladder is not None and compensated:
            way = self.ladder.ways(u[:compensated])
            t = torch.cat([way[0], t[compensated:]])
        if self.flip:
            mirrored = mirror.reshape(-1, 1, 1, 1) < 0.5
            x0 = torch.where(mirrored, x0.flip(3), x0)
            condition = None if condition is None else torch.where(mirrored, condition.flip(3), condition)
        xi, z = gauss() if self.perturbed else None, gauss() if self.noise else None
        return Draw(x0, condition, t, e, compensated, way, xi, z, recall=bool(step_seed >> 20 & 1))
