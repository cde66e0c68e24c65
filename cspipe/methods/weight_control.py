"""Control of compensated training: plain states, weighted as the compensated ones weigh themselves.

The target e' of a compensated state grows where w C is large against the noise of step s, so those steps rule the loss.
What this control gains as well is a weighting of the steps, not the states.
"""

from __future__ import annotations

from cspipe.diffusion.losses import Pair, plain_pair
from cspipe.methods import OwnSteps, compensated

USES_MODULE, DRAWS_NOISE = compensated.USES_MODULE, compensated.DRAWS_NOISE
share = compensated.share


def pair(own: OwnSteps) -> Pair:
    """The plain pair at s, each image weighted by ||target of the compensated pair||^2 / ||its own target||^2.

    This is the ratio of the two losses of a net that says 0, as ours do when training starts.
    """
    plain = plain_pair(own.prediction, own.x0, own.e, own.way[-1], own.schedule)
    theirs, ours = (each.target.square().flatten(1).sum(1) for each in (compensated.pair(own), plain))
    return plain._replace(weight=theirs / ours)
