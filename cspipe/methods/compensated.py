"""Compensated training (arXiv 2312.06285): the net learns on its own reverse step with w C added."""

from __future__ import annotations

from cspipe.compensation import compensated_pair
from cspipe.diffusion.training_pair import TrainingPair
from cspipe.training.reverse_step import ReverseStep, fading

USES_COMPENSATOR, DRAWS_NOISE = True, False
share = fading


def pair(step: ReverseStep) -> TrainingPair:
    """Return x_s = DDIM(x_t, x0_hat; s) + w(t, s) C(x0_hat, t), and the target there."""
    return compensated_pair(step.x0, step.x_t, step.x0_hat, step.t, step.s, step.prediction, step.compensation)
