"""Compensation sampling (arXiv 2312.06285), line by line as in docs/METHOD.md.

A reverse step from t to s uses the net's estimate x0_hat of the clean image, so it misses the true state by exactly
kappa(t, s) (x0 - x0_hat). A small net C learns that error from x0_hat and t, and each step adds w(t, s) C(x0_hat, t):

- in sampling (`Compensation`, by cspipe/corrections/compensation.py);
- in training, where the main net learns on the states that such steps reach (`compensated_pair`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import Denoiser, Prediction, add_noise, per_image
from cspipe.diffusion.schedule import Schedule
from cspipe.diffusion.training_pair import TrainingPair, pair_at
from cspipe.runtime.registry import find
from cspipe.runtime.settings import Count, Number, Rate, Scale, Section, file_of

COMPENSATORS = "cspipe.compensators"
Compensator = Callable[[Tensor, Tensor], Tensor]
"""C: (x0_hat (N, C, H, W) in [-1, 1], t (N,)) -> an estimate of x0 - x0_hat, same shape."""


class Weighting(Section):
    """Weight of C in a reverse step: x_s = DDIM(x_t, x0_hat) + scale * min(w, cap * sqrt(1-ab_s)) * C(x0_hat, t)."""

    weight: Literal["kappa", "signal", "cold"] | Scale = Field(
        description="w(t, s): kappa (exact), signal = sqrt(ab_s), cold = sqrt(ab_s) - sqrt(ab_t), or a constant"
    )
    scale: Scale = Field(description="factor on the weight")
    cap: Annotated[Number, Field(gt=0)] | None = Field(description="cap on w in units of sqrt(1-ab_s); null: none")


def compensation_weight(t: Tensor, s: Tensor, schedule: Schedule, weighting: Weighting) -> Tensor:
    """Return the factor on C(x0_hat, t), scale * min(w(t, s), cap * sqrt(1-ab_s)), for s < t, in the shape of t.

    The cap keeps w C small beside the noise of step s; it is not applied at s = 0, where there is no noise.
    """
    signal = schedule.sqrt_alpha_bar
    if weighting.weight == "kappa":
        w = schedule.kappa(t, s)
    elif weighting.weight == "signal":
        w = signal[s]
    elif weighting.weight == "cold":
        w = signal[s] - signal[t]
    else:
        w = signal[s] * 0 + weighting.weight
    if weighting.cap is not None:
        w = w.minimum(weighting.cap * schedule.sqrt_one_minus_alpha_bar[s]).where(s > 0, w)
    return weighting.scale * w


@dataclass(frozen=True)
class Compensation:
    """Turns the state after a reverse step into the compensated one, in training and in sampling."""

    C: Compensator
    schedule: Schedule
    weighting: Weighting

    def __call__(self, x_s: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return x_s + w(t, s) C(x0_hat, t); images (N, C, H, W), timesteps (N,)."""
        return self.add(x_s, self.C(x0_hat, t), t, s)

    def add(self, x_s: Tensor, c: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Return x_s + w(t, s) c, for any c (N, C, H, W)."""
        return x_s + per_image(compensation_weight(t, s, self.schedule, self.weighting)) * c


def compensated_pair(
    x0: Tensor, x_t: Tensor, x0_hat: Tensor, t: Tensor, s: Tensor, prediction: Prediction, compensation: Compensation
) -> TrainingPair:
    """Return the state that the main net's own compensated step reaches, and the training target there.

    x_t = add_noise(x0, eps, t), and x0_hat is the net's estimate at x_t; all tensors are without gradient. If C were
    perfect, C = x0 - x0_hat, this would be the plain pair at s with the same eps.
    """
    schedule = compensation.schedule
    x_s = ddim_step(x_t, x0_hat, t, s, schedule)
    x_s = compensation(x_s, x0_hat, t, s)
    return pair_at(prediction, x0, x_s, s, schedule)


class CompensationSettings(Section):
    """Settings of the net C and of its fit."""

    net: Annotated[str, file_of(COMPENSATORS)] = Field(description="architecture of C")
    channels: Count = Field(description="width of C")
    epochs: Count = Field(description="passes over the training set in the compensate stage")
    batch: Count = Field(description="images per optimizer step")
    learning_rate: Rate = Field(description="AdamW step size")
    loss: Literal["l2", "l1"] = Field(description="distance between C and x0 - x0_hat")
    states: Literal["forward", "reverse"] = Field(description="x_t of its fit: forward, or after the net's DDIM step")

    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """Build C, which starts as C = 0; in_channels counts image and condition, out_channels the image alone."""
        net: nn.Module = find(COMPENSATORS, self.net, "build")(in_channels, out_channels, size, self.channels)
        return net

    @model_validator(mode="after")
    def _groups_divide(self) -> CompensationSettings:
        if self.channels % 16:
            raise ValueError(f"compensation.channels {self.channels} must be divisible by 16 (groups and heads)")
        return self


def compensator_loss(c: Tensor, x0: Tensor, x0_hat: Tensor, norm: Literal["l1", "l2"]) -> Tensor:
    """Return the mean distance of C(x0_hat, t) from its target x0 - x0_hat; images (N, C, H, W) -> scalar."""
    error = c - (x0 - x0_hat)
    return error.abs().mean() if norm == "l1" else error.square().mean()


def estimate_to_fit(
    denoise: Denoiser, x0: Tensor, eps: Tensor, t: Tensor, schedule: Schedule, states: Literal["forward", "reverse"]
) -> Tensor:
    """Return the main net's estimate x0_hat (N, C, H, W) at x_t, whose error C is fitted to.

    With `states` "forward", x_t = add_noise(x0, eps, t). With "reverse", as in sampling, x_t is the state after the
    net's own DDIM step from the forward state at t + 1 (at T, the forward state itself).
    """
    if states == "forward":
        return denoise(add_noise(x0, eps, t, schedule), t)
    above = (t + 1).clamp(max=schedule.steps)
    x = add_noise(x0, eps, above, schedule)
    return denoise(ddim_step(x, denoise(x, above), above, t, schedule), t)
