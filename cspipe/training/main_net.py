"""Training of the main net: the DDPM loss, or with compensated reverse steps and the module fit in the first epoch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspipe.denoiser import NetDenoiser
from cspipe.diffusion.corrections.compensation import Compensation, CompensationWeight
from cspipe.diffusion.losses import compensated_pair, plain_pair
from cspipe.diffusion.reverse import sample, subsequence
from cspipe.diffusion.samplers import Walk, ddim
from cspipe.params import Train
from cspipe.pixels import quantise
from cspipe.seeds import derive_seed
from cspipe.training.draws import Draw, draw
from cspipe.training.examples import Batch, Examples
from cspipe.training.loop import crossed
from cspipe.training.module import ModuleFit, module_norms
from cspipe.training.optim import MovingAverage, adamw, all_finite, rate_factor

GRID_IMAGES, GRID_STEPS = 10, 50
"""Size of a row of samples along the way, and the DDIM steps it takes."""


@dataclass
class CompensatedPath:
    """What training needs to take the net's own compensated reverse step."""

    fit: ModuleFit
    weight: CompensationWeight
    fit_until: int
    """Images seen when the module is frozen: epochs x training images."""

    def correction(self, condition: Tensor | None) -> Compensation:
        """The compensated step under a condition."""
        return Compensation(self.fit.c.given(condition), self.weight)


@dataclass
class MainNet:
    """Trainee of the train stage."""

    net: nn.Module
    denoise: NetDenoiser
    settings: Train
    seed: int
    examples: Examples
    compensation: CompensatedPath | None
    rows: list[Tensor] = field(default_factory=list)
    """Samples along the way, one row per train.grid_every images."""
    norms: list[dict[str, float]] = field(default_factory=list)
    """Size of the module over t when it was frozen."""

    def __post_init__(self) -> None:
        self.optimizer = adamw(self.net, self.settings.learning_rate, self.settings.weight_decay)
        self.ema = MovingAverage(self.net, self.settings.batch, self.settings.ema_half_life)

    def share(self, seen: int) -> float:
        """Share of a batch on the compensated path: constant, or falling linearly to 0 over `fade` of training."""
        if self.compensation is None:
            return 0.0
        start, fade = self.settings.compensation.share, self.settings.compensation.fade
        return start if fade == 0 else start * max(0.0, 1 - seen / (fade * self.settings.images))

    def step(self, batch: Batch, seen: int) -> dict[str, Tensor]:
        """One optimizer step on a batch, in micro-batches whose gradients add up to the batch's."""
        settings, x0 = self.settings, batch.x0
        share = self.share(seen)
        d = draw(batch, self.seed, seen, self.denoise.schedule.steps, settings.flip, share)
        fitting = self.compensation is not None and seen < self.compensation.fit_until
        loss, module_loss = x0.new_zeros(()), x0.new_zeros(())
        for start in range(0, settings.batch, settings.micro_batch):
            part = d.slice(start, start + settings.micro_batch)
            part_loss, part_module_loss = self._learn(part, fitting)
            loss, module_loss = loss + part_loss, module_loss + part_module_loss
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), settings.clip)
        factor = rate_factor(seen, settings.images, settings.warmup, settings.cooldown)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.net)
        scalars = {"loss": loss, "grad_norm": norm}
        if self.compensation is not None:
            scalars["share"] = x0.new_full((), d.compensated / settings.batch)
            if fitting:
                self.compensation.fit.update()
                scalars["module_loss"] = module_loss
        return scalars

    def _learn(self, part: Draw, fitting: bool) -> tuple[Tensor, Tensor]:
        """Add the gradients of a micro-batch; returns its parts of the batch's (loss, module's loss)."""
        schedule, prediction = self.denoise.schedule, self.denoise.prediction
        part_of_batch = self.settings.micro_batch / self.settings.batch
        module_loss = part.x0.new_zeros(())
        x, t, target = plain_pair(prediction, part.x0, part.e, part.t, schedule)
        if self.compensation is not None and (fitting or part.compensated):
            # The module learns from every image of its epoch, the compensated path needs its own share alone.
            known = len(t) if fitting else part.compensated
            x0h = self._estimate(part.slice(0, known), x[:known])
            k = part.compensated
            if k:
                correction = self.compensation.correction(part.slice(0, k).condition)
                pair = compensated_pair(prediction, part.x0[:k], x[:k], x0h[:k], t[:k], schedule, correction)
            if fitting:
                module_loss = self.compensation.fit.learn(part, x0h, part_of_batch)
            if k:
                x, t, target = (torch.cat([own, plain[k:]]) for own, plain in zip(pair, (x, t, target), strict=True))
        loss = (self.denoise.net.given(part.condition)(x, t) - target).square().mean() * part_of_batch
        loss.backward()
        return loss.detach(), module_loss

    @torch.no_grad()
    def _estimate(self, part: Draw, x: Tensor) -> Tensor:
        """The net's clean estimate of the states x of a draw as in sampling, without dropout."""
        self.net.eval()
        x0h = self.denoise.given(part.condition)(x, part.t)
        self.net.train()
        return x0h

    def after(self, seen: int, batch: int) -> None:
        """Measure the module when it is frozen; add a row to the samples along the way."""
        c = self.compensation
        if c is not None and seen - batch < c.fit_until <= seen:
            self.net.eval()
            self.norms = module_norms(self.denoise, c.fit.c, self.examples, self.seed, self.settings.micro_batch)
            self.net.train()
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
        denoise = replace(self.denoise, net=replace(net, net=self.ema.net, condition=condition))
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
            "fit": None if self.compensation is None else self.compensation.fit.state_dict(),
            "rows": self.rows,
            "norms": self.norms,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.net.load_state_dict(state["net"])
        self.ema.net.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.compensation is not None:
            self.compensation.fit.load_state_dict(state["fit"])
        self.rows, self.norms = [row.cpu() for row in state["rows"]], state["norms"]
