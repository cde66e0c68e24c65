"""Control of compensated training: noise with the norm of C's output in place of that output.

A gain that this control has as well does not depend on what C learned.
"""

from __future__ import annotations

from cspipe.diffusion.ddim import ddim_step
from cspipe.diffusion.process import per_image
from cspipe.diffusion.training_pair import TrainingPair, pair_at
from cspipe.training.reverse_step import ReverseStep, fading

USES_COMPENSATOR = DRAWS_NOISE = True
share = fading


def pair(step: ReverseStep) -> TrainingPair:
    """Return x_s = DDIM(x_t, x0_hat; s) + w(t, s) z ||C|| / ||z||, with norms over each image, and the target there."""
    assert step.z is not None, "DRAWS_NOISE"
    c = step.compensation.C(step.x0_hat, step.t)
    noise = per_image(c.flatten(1).norm(dim=1) / step.z.flatten(1).norm(dim=1)) * step.z
    x_s = ddim_step(step.x_t, step.x0_hat, step.t, step.s, step.schedule)
    x_s = step.compensation.add(x_s, noise, step.t, step.s)
    return pair_at(step.prediction, step.x0, x_s, step.s, step.schedule)
