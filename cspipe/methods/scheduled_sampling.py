"""Multi-step denoising scheduled sampling (Ren et al. 2024): the net learns on states that it reached in several steps.

No code of its authors is public; this follows the description: with growing probability the state at s is the end of
`train.compensation.gap` DDIM steps of the net from a forward state, and the target is for the noise that it holds.
"""

from __future__ import annotations

from cspipe.config.params import TrainCompensation
from cspipe.diffusion.losses import Pair, pair_at
from cspipe.methods import OwnSteps
from cspipe.samplers.ddim import ddim_step

USES_MODULE = DRAWS_NOISE = False


def share(settings: TrainCompensation, progress: float) -> float:
    """From 0 up to settings.share over the fraction settings.fade of training; constant with fade 0."""
    return settings.share if settings.fade == 0 else settings.share * min(1.0, progress / settings.fade)


def pair(own: OwnSteps) -> Pair:
    """The state after every step of the way."""
    x, x0h = own.x_t, own.x0h
    for number, (t, s) in enumerate(zip(own.way[:-1], own.way[1:], strict=True)):
        x = ddim_step(x, own.denoise(x, t) if number else x0h, t, s, own.schedule)
    return pair_at(own.prediction, own.x0, x, own.way[-1], own.schedule)
