"""The state that a sampler's steps share on one trajectory from x_T to x_0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor

from cspipe.diffusion.process import Denoiser
from cspipe.diffusion.schedule import Schedule
from cspipe.runtime.registry import find
from cspipe.sampling.repaint import Known

SAMPLERS = "cspipe.samplers"

Noise = Callable[[], Tensor]
"""Draws fresh z ~ N(0, I) in the shape of the images."""


@dataclass
class SamplerState:
    """State of one trajectory, passed to each step down. Raises ValueError if noise is needed and has no source."""

    schedule: Schedule
    timesteps: Sequence[int]
    """Native timesteps from T to 0, falling; where they rise, noise is added."""
    eta: float = 0.0
    """Share of DDPM's posterior noise, 0 (deterministic) to 1."""
    noise: Noise | None = None
    known: Known | None = None
    """Known pixels, put back after every step; None: no pixel is known."""
    terminal: Tensor | None = None
    """Clean estimate (C, H, W) at T in place of the net's, not corrected; None: the net's."""
    history: list[Any] = field(default_factory=list)
    """Memory of a sampler from step to step; the sampler drops what it no longer needs."""
    denoise: Denoiser | None = None
    """The net, for steps that call it; `cspipe.sampling.reverse.sample` sets this field and the next two."""
    number: int = 0
    """Number of the current step, from 0."""
    variances: list[Tensor] = field(default_factory=list)
    """`cspipe.sampling.exposure.pixel_variance` of each state so far, x_T first: scalars on the device."""

    def __post_init__(self) -> None:
        if self.noise is None and (self.eta > 0 or self.known is not None or any(map(self.rises, range(len(self))))):
            raise ValueError("eta > 0, known pixels and rising steps need a noise source")

    def __len__(self) -> int:
        return len(self.timesteps) - 1

    def rises(self, number: int) -> bool:
        """Whether step `number` goes up, back towards noise."""
        return self.timesteps[number + 1] > self.timesteps[number]

    @property
    def given(self) -> Tensor | None:
        """The clean estimate of the current step if `terminal` replaces the net's, else None."""
        return self.terminal if self.timesteps[self.number] == self.schedule.steps else None

    @property
    def is_last(self) -> bool:
        """Whether the current step ends at 0, where the net cannot be called."""
        return self.timesteps[self.number + 1] == 0

    def draw(self) -> Tensor:
        """Draw fresh noise; only for a state with a noise source."""
        assert self.noise is not None, "checked above"
        return self.noise()

    def z(self) -> Tensor | None:
        """Draw fresh noise for a step down; None if eta is 0."""
        return self.draw() if self.eta > 0 else None


Step = Callable[[Tensor, Tensor, Tensor, Tensor, SamplerState], Tensor]
"""(x_t, x0_hat, t, s, state) -> x_s."""


def find_step(name: str) -> Step:
    """Return the step function of the sampler called `name`. Raises UserError if there is none."""
    return cast(Step, find(SAMPLERS, name, "step"))
