"""Training of the main net: its loss, optimizer steps, moving average, and measurements during training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspipe.compensation import Compensation
from cspipe.data.pixels import quantise
from cspipe.data.seeds import derive_seed
from cspipe.diffusion.ddim import ddim_sample, evenly_spaced
from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.training_pair import TrainingPair, perturbed, plain_pair
from cspipe.runtime.errors import UserError
from cspipe.runtime.preemption import Preempted
from cspipe.runtime.ranks import rank
from cspipe.training.accumulation import Accumulation
from cspipe.training.compensator_trainer import CompensatorFit, compensator_norms
from cspipe.training.loop import crossed
from cspipe.training.optim import MovingAverage, adamw, all_finite, rate_factor
from cspipe.training.reverse_step import ReverseStep
from cspipe.training.settings import TrainSettings
from cspipe.training.stream import BLOCK, Batch, TrainingSet, normalised
from cspipe.training.timesteps import TimestepPath, lognormal
from cspipe.training.train_sample import TrainSample, TrainSampler

GRID_IMAGES, GRID_STEPS = 10, 50
"""Images in a row of the samples drawn during training, and DDIM steps to draw them."""


@dataclass
class DiffusionTrainer:
    """Trainer of the train stage."""

    net: nn.Module
    denoise: NetDenoiser
    """Denoiser of `net`."""
    settings: TrainSettings
    method: ModuleType
    """Training method, a module of cspipe/methods."""
    fit: CompensatorFit | None
    """Fit of C; None if the method does not use C."""
    data: TrainingSet
    seed: int
    rows: list[Tensor] = field(default_factory=list)
    """Samples drawn during training, a row per train.grid_every images; a shorter training has one row, at its end."""
    norms: list[dict[str, float]] | None = field(default_factory=list)
    """Norms of C over t, measured when C was frozen; None: to be measured as soon as the state is restored."""
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """EMA weights on the CPU, by the numbers of images in train.snapshots."""
    stopping: Callable[[], bool] = lambda: False
    """Whether the training is about to be stopped: the norms are then left for later."""

    def __post_init__(self) -> None:
        settings, schedule = self.settings, self.denoise.schedule
        device = schedule.sqrt_alpha_bar.device
        t_max, method = settings.t_max or schedule.steps, settings.compensation
        cumulative = None if settings.timesteps == "uniform" else lognormal(schedule, t_max)
        path = TimestepPath.of(schedule.steps, method.path, method.gap, t_max, device, cumulative)
        perturbed = settings.perturbation > 0
        self.draw = TrainSampler(self.seed, t_max, settings.flip, path, cumulative, perturbed, self.method.DRAWS_NOISE)
        self.optimizer = adamw(self.net, settings.learning_rate, settings.weight_decay)
        self.weights = list(self.net.parameters())  # listed once: walking through a net takes milliseconds
        self.ema = MovingAverage(self.net, settings.batch, settings.ema_half_life)
        nets = [self.denoise.net.net] + ([] if self.fit is None else [self.fit.C.net])
        self.accumulate = Accumulation(settings.micro_batch, nets)
        self.fit_until = settings.compensation.start + settings.compensation.epochs * len(self.data)
        """Images seen when C is frozen."""

    def share(self, seen: int) -> float:
        """Return the share of a batch on the method's path after `seen` images: 0 until train.compensation.start."""
        since = seen - self.settings.compensation.start
        return 0.0 if since < 0 else float(self.method.share(self.settings.compensation, since / self.settings.images))

    def fits(self, seen: int) -> bool:
        """Whether C is fitted in the step that starts at `seen` images."""
        return self.fit is not None and self.settings.compensation.start <= seen < self.fit_until

    def step(self, batch: Batch, seen: int) -> dict[str, Tensor]:
        """Make one optimizer step on a batch, in micro-batches whose gradients add up to the batch's."""
        settings, x0 = self.settings, batch.x0
        if seen - settings.batch < settings.compensation.start <= seen:
            self.accumulate.steps = 0  # C and the method's path need more memory from here on
        sample = self.draw(batch, seen, self.share(seen))
        fit = self.fit if self.fits(seen) else None
        loss, fit_loss = self.accumulate(sample, partial(self._backward, fit))
        norm = nn.utils.clip_grad_norm_(self.weights, settings.clip)
        factor = rate_factor(seen, settings.images, settings.warmup, settings.cooldown)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.weights)
        scalars = {"loss": loss, "grad_norm": norm}
        if settings.method != "plain":
            scalars["share"] = x0.new_full((), sample.on_method / len(sample.t))
        if fit is not None:
            fit.update()
            scalars["module_loss"] = fit_loss
        return scalars

    def _backward(self, fit: CompensatorFit | None, part: TrainSample, share_of_batch: float) -> tuple[Tensor, Tensor]:
        """Add the gradients of a micro-batch; return its parts of the batch's (loss, loss of C's fit)."""
        denoise, fit_loss = self.denoise.with_condition(part.condition), part.x0.new_zeros(())
        pair = plain_pair(denoise.prediction, part.x0, part.eps, part.t, denoise.schedule)
        asks_net = fit is not None or part.on_method or (denoise.net.self_conditioned and part.self_cond)
        with self.frozen() if asks_net else torch.no_grad():
            x0_hat = self._estimates(part, pair, fit)
            to_fit = x0_hat if fit is None or fit.settings.states == "forward" else fit.estimate(denoise, part)
            if part.on_method:
                pair = pair.replace_first(self._method_pair(part, pair, x0_hat))
            if part.xi is not None:
                pair = perturbed(pair, part.xi, self.settings.perturbation, denoise.schedule)
            if denoise.net.self_conditioned and part.self_cond:
                denoise = denoise.with_self_cond(denoise(pair.x, pair.t))
        if fit is not None:
            fit_loss = fit.backward(part, to_fit, share_of_batch)
        loss = pair.loss(denoise.output(pair.x, pair.t), self.settings.loss) * share_of_batch
        loss.backward()
        return loss.detach(), fit_loss

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Context in which the net works as in sampling: without dropout and gradient."""
        self.net.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.net.train()  # also when out of memory: the step is then repeated in smaller parts

    def _estimates(self, part: TrainSample, pair: TrainingPair, fit: CompensatorFit | None) -> Tensor:
        """Return x0_hat of the forward states that need it: the first, on the method's path, or all for the fit."""
        every = fit is not None and fit.settings.states == "forward"
        count = len(part.t) if every else part.on_method
        if not count:
            return part.x0[:0]
        first = part.slice(0, count)
        return self.denoise.with_condition(first.condition)(pair.x[:count], first.t)

    def _method_pair(self, part: TrainSample, pair: TrainingPair, x0_hat: Tensor) -> TrainingPair:
        """Return the training pair of the images on the method's path."""
        count, first, schedule = part.on_method, part.slice(0, part.on_method), self.denoise.schedule
        assert first.timesteps is not None, "drawn with these images"
        compensation = None
        if self.fit is not None:
            C = self.fit.C.with_condition(first.condition)
            compensation = Compensation(C, schedule, self.settings.compensation)
        step = ReverseStep(
            first.x0,
            first.eps,
            pair.x[:count],
            x0_hat[:count],
            first.timesteps,
            first.z,
            self.denoise.with_condition(first.condition),
            self.denoise.prediction,
            schedule,
            compensation,
        )
        made: TrainingPair = self.method.pair(step)
        if made.x.shape != step.x0.shape or {len(part) for part in made} != {count}:
            shapes = ", ".join(str(tuple(part.shape)) for part in made)
            wanted = f"states of {tuple(step.x0.shape)}, and {count} timesteps, targets and weights"
            raise UserError(f"{self.method.__name__}: pair returned {shapes}; it must return {wanted}")
        return made

    def after(self, seen: int, batch: int) -> None:
        """On rank 0, measure C when it is frozen, draw a row of samples, and keep EMA weights, each when it is due."""
        if rank():
            return
        if self.fit is not None and seen - batch < self.fit_until <= seen:
            self.norms = self._measured(self.fit.C, self.accumulate.micro_batch)
        if crossed(seen, batch, self.settings.grid_every) or (seen >= self.settings.images and not self.rows):
            self.rows.append(self._row())
        for images in self.settings.snapshots:
            if seen - batch < min(images, self.settings.images) <= seen:
                ema = self.ema.net.state_dict()
                self.snapshots[images] = {name: weight.to("cpu", copy=True) for name, weight in ema.items()}

    def _measured(self, C: TimestepScaledNet, size: int) -> list[dict[str, float]] | None:
        """Return the norms of C, measured on micro-batches of `size`; None if the training is stopped meanwhile."""
        with self.frozen(), suppress(Preempted):
            return compensator_norms(self.denoise, C, self.data, self.seed, size, "train-norm", stopping=self.stopping)
        return None

    @torch.no_grad()
    def _row(self) -> Tensor:
        """Draw a row of EMA samples (GRID_IMAGES, C, H, W) uint8, from the same noise and conditions each time."""
        schedule, net = self.denoise.schedule, self.denoise.net
        generator = net.device.generator(derive_seed(self.seed, "grid"))
        indices = np.arange(GRID_IMAGES) % len(self.data)
        x0, condition = normalised(self.data.gather(indices, net.device, "grid"))
        x_T = torch.randn(x0.shape, generator=generator, device=x0.device)
        denoise = replace(self.denoise, net=replace(net, net=self.ema.net, condition=condition)).along_trajectory()
        timesteps = evenly_spaced(schedule.steps, min(GRID_STEPS, schedule.steps))
        return quantise(ddim_sample(denoise, x_T, timesteps, schedule)).cpu()

    def mean_image(self) -> Tensor:
        """Return the mean of the training images (C, H, W) in [-1, 1], including mirrored ones with train.flip."""
        images, count = self.data.images, len(self.data)
        blocks = (np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))
        total = sum(images.gather(block).sum(0, dtype=np.int64) for block in blocks)
        mean = torch.from_numpy(np.asarray(total / count / 127.5 - 1, np.float32))
        return (mean + mean.flip(2)) / 2 if self.settings.flip else mean

    def finite(self) -> bool:
        """Whether every weight of the main net is finite."""
        return all_finite(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on, and the measurements so far."""
        return {
            "net": self.net.state_dict(),
            "ema": self.ema.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "fit": None if self.fit is None else self.fit.state_dict(),
            "rows": self.rows,
            "norms": self.norms,
            "micro_batch": self.accumulate.micro_batch,
            "snapshots": self.snapshots,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; measure C if the training was stopped when that was due."""
        self.net.load_state_dict(state["net"])
        self.ema.net.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.fit is not None:
            self.fit.load_state_dict(state["fit"])
        self.rows, self.norms = [row.cpu() for row in state["rows"]], state["norms"]
        kept = state["snapshots"].items()
        self.snapshots = {images: {name: weight.cpu() for name, weight in ema.items()} for images, ema in kept}
        if self.norms is None and self.fit is not None and not rank():
            self.norms = self._measured(self.fit.C, state["micro_batch"])  # the first steps may have halved it
