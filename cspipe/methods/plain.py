"""Forward states alone (Ho et al. 2020)."""

from __future__ import annotations

from cspipe.config.params import TrainCompensation
from cspipe.diffusion.losses import Pair, plain_pair
from cspipe.methods import OwnSteps

USES_MODULE = DRAWS_NOISE = False


def share(settings: TrainCompensation, progress: float) -> float:
    """No image takes another path."""
    return 0.0


def pair(own: OwnSteps) -> Pair:
    """The forward state at t."""
    return plain_pair(own.prediction, own.x0, own.e, own.way[0], own.schedule)
