"""Control of compensated training: noise of C's norm in place of C. What it gains as well, C need not have learned."""

from __future__ import annotations

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import per_image
from cspipe.diffusion.training_pair import TrainingPair, pair_at
from cspipe.training.reverse_step import ReverseStep, fading

USES_COMPENSATOR = DRAWS_NOISE = True
share = fading


def pair(step: ReverseStep) -> TrainingPair:
    """x_s = DDIM(x_t, x0_hat; s) + w(t, s) z ||C|| / ||z||, the norms taken over each image."""
    assert step.z is not None, "DRAWS_NOISE"
    c = step.compensation.C(step.x0_hat, step.t)
    noise = per_image(c.flatten(1).norm(dim=1) / step.z.flatten(1).norm(dim=1)) * step.z
    x_s = ddim_step(step.x_t, step.x0_hat, step.t, step.s, step.schedule)
    x_s = step.compensation.add(x_s, noise, step.t, step.s)
    return pair_at(step.prediction, step.x0, x_s, step.s, step.schedule)
