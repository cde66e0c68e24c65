"""Training of the main net: its steps, its moving average, and what is seen on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspipe.config.params import Train
from cspipe.data.pixels import quantise
from cspipe.data.seeds import derive_seed
from cspipe.samplers import Walk, ddim
from cspipe.sampling.reverse import sample, subsequence
from cspipe.training.examples import Batch, Examples
from cspipe.training.loop import crossed
from cspipe.training.module import module_norms
from cspipe.training.objective import Objective
from cspipe.training.optim import MovingAverage, adamw, all_finite, rate_factor

GRID_IMAGES, GRID_STEPS = 10, 50
"""Size of a row of samples along the way, and the DDIM steps it takes."""


@dataclass
class MainNet:
    """Trainee of the train stage."""

    objective: Objective
    settings: Train
    seed: int
    examples: Examples
    rows: list[Tensor] = field(default_factory=list)
    """Samples along the way, one row per train.grid_every images."""
    norms: list[dict[str, float]] = field(default_factory=list)
    """Size of the module over t when it was frozen."""

    def __post_init__(self) -> None:
        self.net, self.denoise = self.objective.net, self.objective.denoise
        self.draws = self.objective.draws(self.seed)
        self.optimizer = adamw(self.net, self.settings.learning_rate, self.settings.weight_decay)
        self.ema = MovingAverage(self.net, self.settings.batch, self.settings.ema_half_life)

    def step(self, batch: Batch, seen: int) -> dict[str, Tensor]:
        """One optimizer step on a batch, in micro-batches whose gradients add up to the batch's."""
        settings, x0 = self.settings, batch.x0
        d = self.draws(batch, seen, self.objective.share(seen))
        fitting = self.objective.fits(seen)
        loss, module_loss = x0.new_zeros(()), x0.new_zeros(())
        for start in range(0, settings.batch, settings.micro_batch):
            part = d.slice(start, start + settings.micro_batch)
            part_loss, part_module_loss = self.objective.learn(part, fitting)
            loss, module_loss = loss + part_loss, module_loss + part_module_loss
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip)
        factor = rate_factor(seen, settings.images, settings.warmup, settings.cooldown)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.net)
        scalars = {"loss": loss, "grad_norm": norm}
        if settings.method != "plain":
            scalars["share"] = x0.new_full((), d.compensated / settings.batch)
        if fitting and self.objective.fit is not None:
            self.objective.fit.update()
            scalars["module_loss"] = module_loss
        return scalars

    def after(self, seen: int, batch: int) -> None:
        """Measure the module when it is frozen; add a row to the samples along the way."""
        fit = self.objective.fit
        if fit is not None and seen - batch < self.objective.fit_until <= seen:
            with self.objective.quiet():
                micro_batch = self.settings.micro_batch
                self.norms = module_norms(self.denoise, fit.c, self.examples, self.seed, micro_batch, "train-norm")
        if crossed(seen, batch, self.settings.grid_every):
            self.rows.append(self._row())

    @torch.no_grad()
    def _row(self) -> Tensor:
        """A row of EMA samples (GRID_IMAGES, C, H, W) uint8, from the same noise and conditions each time."""
        schedule, net = self.denoise.schedule, self.denoise.net
        device = schedule.signal.device
        generator = torch.Generator(device).manual_seed(derive_seed(self.seed, "grid"))
        x0, condition = (
            self.examples.gather(np.arange(GRID_IMAGES) % len(self.examples), "grid").to(device).normalised()
        )
        x_T = torch.randn(x0.shape, generator=generator, device=device)
        denoise = replace(self.denoise, net=replace(net, net=self.ema.net, condition=condition)).along_a_walk()
        steps = subsequence(schedule.steps, min(GRID_STEPS, schedule.steps))
        return quantise(sample(denoise, x_T, ddim.step, Walk(schedule, steps))).cpu()

    def finite(self) -> bool:
        """Whether every weight is finite."""
        return all_finite(self.net.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on, and what was measured on the way."""
        return {
            "net": self.net.state_dict(),
            "ema": self.ema.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "fit": None if self.objective.fit is None else self.objective.fit.state_dict(),
            "rows": self.rows,
            "norms": self.norms,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        self.ema.net.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.objective.fit is not None:
            self.objective.fit.load_state_dict(state["fit"])
        self.rows, self.norms = [row.cpu() for row in state["rows"]], state["norms"]
