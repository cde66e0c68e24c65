"""The random part of a step, drawn for the whole batch at once: micro-batches of any size see the same numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cspipe.seeds import derive_seed
from cspipe.training.examples import Batch


@dataclass(frozen=True)
class Draw:
    """A batch with its steps and noise; the first `compensated` images take the compensated path."""

    x0: Tensor
    condition: Tensor | None
    t: Tensor
    e: Tensor
    compensated: int

    def slice(self, start: int, stop: int) -> Draw:
        """Images start..stop of the batch."""
        compensated = min(max(self.compensated - start, 0), stop - start)
        condition = None if self.condition is None else self.condition[start:stop]
        return Draw(self.x0[start:stop], condition, self.t[start:stop], self.e[start:stop], compensated)


def draw(batch: Batch, seed: int, seen: int, steps: int, flip: bool, share: float = 0.0) -> Draw:
    """Mirror half of the batch if `flip`; draw e ~ N(0, I) and t uniform in 1..T, on the compensated path 2..T.

    Everything follows from (seed, seen). The number of compensated images has mean share * N. Also seeds torch's
    global generators, from which dropout draws.
    """
    x0, condition = batch
    step_seed = derive_seed(seed, "step", seen)
    torch.manual_seed(step_seed)
    generator = torch.Generator(x0.device).manual_seed(step_seed)
    n = len(x0)
    u, mirror = torch.rand((2, n), generator=generator, device=x0.device)
    e = torch.randn(x0.shape, generator=generator, device=x0.device)
    compensated = int(share * n + (step_seed % 2**20) / 2**20)
    lowest = 1 + (torch.arange(n, device=x0.device) < compensated).long()
    t = lowest + (u * (steps + 1 - lowest)).long()
    if flip:
        mirrored = mirror.reshape(-1, 1, 1, 1) < 0.5
        x0 = torch.where(mirrored, x0.flip(3), x0)
        condition = None if condition is None else torch.where(mirrored, condition.flip(3), condition)
    return Draw(x0, condition, t, e, compensated)
