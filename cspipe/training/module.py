"""The fit of the compensation module C to x0 - x0h, beside the young main net or against the finished one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspipe.config.params import Compensation
from cspipe.data.seeds import derive_seed
from cspipe.diffusion.denoiser import NetDenoiser, Timed
from cspipe.diffusion.losses import module_loss, simulated_state
from cspipe.diffusion.process import diffuse
from cspipe.runtime.progress import Progress
from cspipe.training.draws import Draw, Draws
from cspipe.training.examples import Batch, Examples
from cspipe.training.optim import adamw, all_finite

NORM_STEPS = 20
"""Steps t at which the size of C is measured."""


class ModuleFit:
    """C with its optimizer. `learn` adds gradients, `update` makes the step."""

    def __init__(self, module: nn.Module, c: Timed, settings: Compensation) -> None:
        self.module, self.c, self.settings = module, c, settings
        self.optimizer = adamw(module, settings.learning_rate)

    @torch.no_grad()
    def estimate(self, denoise: NetDenoiser, d: Draw) -> Tensor:
        """The net's clean estimates (N, C, H, W) that C learns from, at the states that settings.states says."""
        told, schedule = denoise.given(d.condition), denoise.schedule
        if self.settings.states == "reverse":
            return told(simulated_state(told, d.x0, d.e, d.t, schedule), d.t)
        return told(diffuse(d.x0, d.e, d.t, schedule), d.t)

    def learn(self, d: Draw, x0h: Tensor, share: float) -> Tensor:
        """Add the gradient of `share` times the loss on a draw and its estimates x0h; returns that product."""
        loss = module_loss(self.c.given(d.condition)(x0h, d.t), d.x0, x0h, self.settings.loss) * share
        loss.backward()
        return loss.detach()

    def update(self) -> Tensor:
        """One optimizer step; returns the gradient's norm, clipped at 1."""
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass
class FinishedFit:
    """Trainee of the compensate stage: C against a finished main net, which does not change."""

    fit: ModuleFit
    denoise: NetDenoiser
    seed: int
    flip: bool
    micro_batch: int
    """Images per forward pass."""

    def step(self, batch: Batch, seen: int) -> dict[str, Tensor]:
        """One step of C on states of a batch (arXiv 2312.06285: L2 or L1 to x0 - x0h)."""
        d = Draws(self.seed, self.denoise.schedule.steps, self.flip)(batch, seen)
        loss = batch.x0.new_zeros(())
        for start in range(0, len(d.t), self.micro_batch):
            part = d.slice(start, min(start + self.micro_batch, len(d.t)))
            x0h = self.fit.estimate(self.denoise, part)
            loss = loss + self.fit.learn(part, x0h, len(part.t) / len(d.t))
        return {"loss": loss, "grad_norm": self.fit.update()}

    def after(self, seen: int, batch: int) -> None:
        """Nothing happens between steps."""

    def finite(self) -> bool:
        """Whether every weight of C is finite."""
        return all_finite(self.fit.module.parameters())

    def state_dict(self) -> dict[str, Any]:
        """The fit's."""
        return self.fit.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The fit's."""
        self.fit.load_state_dict(state)


@torch.no_grad()
def module_norms(
    denoise: NetDenoiser, module: Timed, examples: Examples, seed: int, micro_batch: int, name: str, count: int = 256
) -> list[dict[str, float]]:
    """||C|| / ||x0 - x0h|| and ||x0 - x0h - C|| / ||x0 - x0h|| at about 20 steps t, over the first `count` images.

    The second is what is left of the error: 1 means that C does nothing, less that it helps, more that it harms.
    Its progress is shown as `name`.
    """
    schedule = denoise.schedule
    device = schedule.signal.device
    first = np.arange(min(count, len(examples)))
    x0, condition = examples.gather(first, "norms").to(device).normalised()
    e = torch.randn(x0.shape, generator=torch.Generator(device).manual_seed(derive_seed(seed, "norms")), device=device)
    steps = sorted({1 + round(i * (schedule.steps - 1) / (NORM_STEPS - 1)) for i in range(NORM_STEPS)})
    rows = []
    with Progress(name, len(steps) * len(x0)) as progress:
        for step in steps:
            t = torch.full((len(x0),), step, device=device)
            whole, squares = Draw(x0, condition, t, e), torch.zeros(3, device=device)
            for start in range(0, len(x0), micro_batch):
                part = whole.slice(start, min(start + micro_batch, len(x0)))
                x0h = denoise.given(part.condition)(diffuse(part.x0, part.e, part.t, schedule), part.t)
                c, error = module.given(part.condition)(x0h, part.t), part.x0 - x0h
                squares += torch.stack([each.square().sum() for each in (c, error, error - c)])
                progress.advance(len(part.t))
            size, whole_error, left = squares.sqrt().tolist()
            rows.append({"t": step, "norm_ratio": size / whole_error, "error": left / whole_error})
    return rows
