"""Multi-step denoising scheduled sampling (Ren et al. 2024): the net learns on states that it reached in several steps.

No code of its authors is public; this follows the description: with growing probability the state at s is the end of
`train.compensation.gap` DDIM steps of the net from a forward state, and the target is for the noise in it.
"""

from __future__ import annotations

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.training_pair import TrainingPair, pair_at
from cspipe.training.reverse_step import ReverseStep
from cspipe.training.settings import TrainCompensation

USES_COMPENSATOR = DRAWS_NOISE = False


def share(settings: TrainCompensation, progress: float) -> float:
    """Return settings.share, rising from 0 over the fraction settings.fade of training; constant with fade 0."""
    return settings.share if settings.fade == 0 else settings.share * min(1.0, progress / settings.fade)


def pair(step: ReverseStep) -> TrainingPair:
    """Return the state after all DDIM steps from t to s, and the target there."""
    x, x0_hat = step.x_t, step.x0_hat
    for number, (t, s) in enumerate(zip(step.timesteps[:-1], step.timesteps[1:], strict=True)):
        x = ddim_step(x, step.denoise(x, t) if number else x0_hat, t, s, step.schedule)
    return pair_at(step.prediction, step.x0, x, step.s, step.schedule)
