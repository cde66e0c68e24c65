"""What a sampler's steps share on one trajectory from x_T to x_0."""

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
    """Handed to each step down. Raises ValueError if noise is needed and has no source."""

    schedule: Schedule
    timesteps: Sequence[int]
    """Native timesteps from T to 0, falling; where they rise, noise is added."""
    eta: float = 0.0
    """0: deterministic, 1: DDPM's posterior noise."""
    noise: Noise | None = None
    known: Known | None = None
    """Pixels that are put back after every step; None: all are to be found."""
    terminal: Tensor | None = None
    """The clean estimate (C, H, W) at T, in place of the net's, and not corrected; None: ask the net."""
    history: list[Any] = field(default_factory=list)
    """What a sampler with memory keeps from step to step; it drops what it needs no more."""
    denoise: Denoiser | None = None
    """The net, for a step that asks it itself; set by `cspipe.sampling.reverse.sample`, as are the next two."""
    number: int = 0
    """Of the step that is being taken."""
    variances: list[Tensor] = field(default_factory=list)
    """Of the states so far, x_T among them: `cspipe.sampling.exposure.pixel_variance`, a scalar on the device each."""

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
        """The clean estimate of the step that is being taken, where it is not the net's."""
        return self.terminal if self.timesteps[self.number] == self.schedule.steps else None

    @property
    def is_last(self) -> bool:
        """Whether the step that is being taken ends at 0, where the net cannot be asked."""
        return self.timesteps[self.number + 1] == 0

    def draw(self) -> Tensor:
        """Fresh noise, where there is a source."""
        assert self.noise is not None, "checked above"
        return self.noise()

    def z(self) -> Tensor | None:
        """Fresh noise for a step down; None where eta is 0."""
        return self.draw() if self.eta > 0 else None


Step = Callable[[Tensor, Tensor, Tensor, Tensor, SamplerState], Tensor]
"""(x_t, x0_hat, t, s, state) -> x_s."""


def find_step(name: str) -> Step:
    """The step of a sampler by its name. Raises UserError if there is none."""
    return cast(Step, find(SAMPLERS, name, "step"))
