"""Control of compensated training: plain states, weighted in the loss by the size of compensated targets.

The target of a compensated state grows where w C is large against the noise of step s, so those steps dominate the
loss. A gain that this control has as well comes from the weighting of the steps, not from the states.
"""

from __future__ import annotations

from cspipe.compensation import compensated_pair
from cspipe.diffusion.training_pair import TrainingPair, plain_pair
from cspipe.training.reverse_step import ReverseStep, fading

USES_COMPENSATOR, DRAWS_NOISE = True, False
share = fading


def pair(step: ReverseStep) -> TrainingPair:
    """Return the plain pair at s, each image weighted by ||target of the compensated pair||^2 / ||its plain target||^2.

    This is the ratio of the two losses of a net that outputs 0, as ours do when training starts.
    """
    plain = plain_pair(step.prediction, step.x0, step.eps, step.s, step.schedule)
    compensated = compensated_pair(step.x0, step.x_t, step.x0_hat, step.t, step.s, step.prediction, step.compensation)
    squares, plain_squares = (each.target.square().flatten(1).sum(1) for each in (compensated, plain))
    return plain._replace(weight=squares / plain_squares)
