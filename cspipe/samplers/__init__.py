"""Samplers, a file each; `variants.*.sampler` in params.yaml is the file's name.

To add one, add a file with
- `step(x_t, x0h, t, s, walk) -> x_s`: images (N, C, H, W), steps (N,) on the device, s < t, the same for all images;
- `ETAS`: the least and the largest eta that it knows;
- `REMEMBERS`: whether it keeps anything in `walk.past`. Such a sampler says what becomes of that when a correction
  changes x_s after the step, and it cannot go back up (`repaint`).
A step that needs more than the one estimate asks `walk.denoise`, like `heun.py`, and says what a correction does then.
The file is imported to check params.yaml, so it imports torch in the functions that need it, not at its top.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cspipe.runtime.registry import find

if TYPE_CHECKING:
    from torch import Tensor

    from cspipe.corrections import AfterStep
    from cspipe.diffusion.process import Denoiser
    from cspipe.diffusion.schedule import Schedule
    from cspipe.sampling.repaint import Known

Noise = Callable[[], "Tensor"]
"""Draws fresh z ~ N(0, I) in the shape of the images."""


@dataclass
class Walk:
    """One way from x_T to x_0, handed to each step down. Raises ValueError if noise is needed and has no source."""

    schedule: Schedule
    steps: Sequence[int]
    """Native steps from T to 0, falling; where they rise, noise is added."""
    eta: float = 0.0
    """0: deterministic, 1: DDPM's posterior noise."""
    noise: Noise | None = None
    known: Known | None = None
    """Pixels that are put back after every step; None: all are to be found."""
    past: list[Any] = field(default_factory=list)
    """What a sampler with memory keeps from step to step; it drops what it needs no more."""
    denoise: Denoiser | None = None
    """The net, for a step that asks it itself. This and what follows is set by `cspipe.sampling.reverse.sample`."""
    correction: AfterStep | None = None
    """What is done to the state after every step."""
    number: int = 0
    """Of the step that is being taken."""
    variances: list[Tensor] = field(default_factory=list)
    """Of the states so far, x_T among them: `cspipe.sampling.exposure.pixel_variance`, a scalar on the device each."""

    def __post_init__(self) -> None:
        if self.noise is None and (self.eta > 0 or self.known is not None or any(map(self.rises, range(len(self))))):
            raise ValueError("eta > 0, known pixels and rising steps need a noise source")

    def __len__(self) -> int:
        return len(self.steps) - 1

    def rises(self, number: int) -> bool:
        """Whether step `number` of the walk goes up, back towards noise."""
        return self.steps[number + 1] > self.steps[number]

    @property
    def is_last(self) -> bool:
        """Whether the step that is being taken ends at 0, where the net cannot be asked."""
        return self.steps[self.number + 1] == 0

    def correct_estimates(self, x0h: Tensor, t: Tensor) -> Tensor:
        """From here on the correction acts on every estimate, no more on the states; returns x0h at t, corrected.

        A corrected estimate is what the corrected step from t straight to 0 gives: x0h + C(x0h, t) for the compensation
        with the weight kappa.
        """
        correction, denoise = self.correction, self.denoise
        if correction is None or denoise is None:
            return x0h

        def corrected(x_t: Tensor, t: Tensor) -> Tensor:
            """The corrected estimate at (x_t, t)."""
            x0h = denoise(x_t, t)
            return correction(x0h, x0h, t, t * 0)

        self.denoise, self.correction = corrected, None
        return correction(x0h, x0h, t, t * 0)

    def draw(self) -> Tensor:
        """Fresh noise of a walk that has a source."""
        assert self.noise is not None, "checked above"
        return self.noise()

    def z(self) -> Tensor | None:
        """Fresh noise for a step down; None where eta is 0."""
        return self.draw() if self.eta > 0 else None


Step = Callable[["Tensor", "Tensor", "Tensor", "Tensor", Walk], "Tensor"]


def find_step(name: str) -> Step:
    """The step of a sampler by its name. Raises UserError if there is none."""
    return cast(Step, find(__name__, name, "step"))
