"""The fit of C to x0 - x0_hat, beside the young main net or against the finished one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspipe.compensation import CompensationSettings, compensator_loss, estimate_to_fit
from cspipe.data.seeds import derive_seed
from cspipe.diffusion.denoiser import NetDenoiser, TimestepScaledNet
from cspipe.diffusion.process import add_noise
from cspipe.runtime.preemption import Preempted
from cspipe.runtime.progress import Progress
from cspipe.training.accumulation import Accumulation
from cspipe.training.optim import adamw, all_finite
from cspipe.training.stream import Batch, TrainingSet, normalised
from cspipe.training.train_sample import TrainSample, TrainSampler

NORM_STEPS = 20
"""Number of timesteps at which the norm of C is measured."""


class CompensatorFit:
    """C with its optimizer. `backward` adds gradients, `update` makes the step."""

    def __init__(self, net: nn.Module, C: TimestepScaledNet, settings: CompensationSettings) -> None:
        self.net, self.C, self.settings = net, C, settings
        self.optimizer = adamw(net, settings.learning_rate)

    @torch.no_grad()
    def estimate(self, denoise: NetDenoiser, sample: TrainSample) -> Tensor:
        """Return the main net's clean estimates (N, C, H, W) at the states named by settings.states, to fit C on."""
        x0, eps, t = sample.x0, sample.eps, sample.t
        denoise = denoise.with_condition(sample.condition)
        return estimate_to_fit(denoise, x0, eps, t, denoise.schedule, self.settings.states)

    def backward(self, sample: TrainSample, x0_hat: Tensor, share: float) -> Tensor:
        """Add the gradient of `share` times the loss on a sample and its estimates; return that product."""
        c = self.C.with_condition(sample.condition)(x0_hat, sample.t)
        loss = compensator_loss(c, sample.x0, x0_hat, self.settings.loss) * share
        loss.backward()
        return loss.detach()

    def update(self) -> Tensor:
        """Make one optimizer step with the gradient clipped to norm 1; return its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the net and the optimizer."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass
class CompensatorTrainer:
    """Trainer of the compensate stage: C against a finished main net, which does not change."""

    fit: CompensatorFit
    denoise: NetDenoiser
    seed: int
    flip: bool
    micro_batch: int
    """Images per forward pass."""

    def __post_init__(self) -> None:
        self.accumulate = Accumulation(self.micro_batch, [self.fit.C.net])

    def step(self, batch: Batch, seen: int) -> dict[str, Tensor]:
        """Make one optimizer step of C on a batch (arXiv 2312.06285: L2 or L1 distance from x0 - x0_hat)."""
        sample = TrainSampler(self.seed, self.denoise.schedule.steps, self.flip)(batch, seen)
        (loss,) = self.accumulate(sample, self._backward)
        return {"loss": loss, "grad_norm": self.fit.update()}

    def _backward(self, part: TrainSample, share: float) -> tuple[Tensor]:
        """Add the gradient of a micro-batch; return its part of the loss."""
        return (self.fit.backward(part, self.fit.estimate(self.denoise, part), share),)

    def after(self, seen: int, batch: int) -> None:
        """Do nothing: the fit of C has no work between steps."""

    def finite(self) -> bool:
        """Whether every weight of C is finite."""
        return all_finite(self.fit.net.parameters())

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the fit."""
        return self.fit.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of the fit."""
        self.fit.load_state_dict(state)


@torch.no_grad()
def compensator_norms(
    denoise: NetDenoiser, C: TimestepScaledNet, data: TrainingSet, seed: int, micro_batch: int, name: str,
    count: int = 256, stopping: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:  # fmt: skip
    """Measure ||C|| / ||e|| and ||e - C|| / ||e||, e = x0 - x0_hat, at about 20 timesteps on the first `count` images.

    The second is the error that is left: 1 means that C does nothing, less that it helps, more that it harms.
    The progress of the measurement is shown as `name`. Raises Preempted if `stopping` is true on the way.
    """
    schedule, device = denoise.schedule, denoise.net.device
    x0, condition = normalised(data.gather(np.arange(min(count, len(data))), device, "norms"))
    eps = torch.randn(x0.shape, generator=device.generator(derive_seed(seed, "norms")), device=x0.device)
    steps = sorted({1 + round(i * (schedule.steps - 1) / (NORM_STEPS - 1)) for i in range(NORM_STEPS)})
    rows = []
    with Progress(name, len(steps) * len(x0)) as progress:
        for step in steps:
            if stopping():
                raise Preempted
            t = torch.full((len(x0),), step, device=x0.device)
            whole, squares = TrainSample(x0, condition, t, eps), torch.zeros(3, device=x0.device)
            for start in range(0, len(x0), micro_batch):
                part = whole.slice(start, min(start + micro_batch, len(x0)))
                x_t = add_noise(part.x0, part.eps, part.t, schedule)
                x0_hat = denoise.with_condition(part.condition)(x_t, part.t)
                c, error = C.with_condition(part.condition)(x0_hat, part.t), part.x0 - x0_hat
                squares += torch.stack([each.square().sum() for each in (c, error, error - c)])
                progress.advance(len(part.t))
            size, whole_error, left = squares.sqrt().tolist()
            whole_error = whole_error or 1.0  # an exact estimate leaves nothing to compare with
            rows.append({"t": step, "norm_ratio": size / whole_error, "error": left / whole_error})
    return rows
