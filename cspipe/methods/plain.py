"""Plain training: forward states alone (Ho et al. 2020)."""

from __future__ import annotations

from cspipe.diffusion.training_pair import TrainingPair, plain_pair
from cspipe.training.reverse_step import ReverseStep
from cspipe.training.settings import TrainCompensation

USES_COMPENSATOR = DRAWS_NOISE = False


def share(settings: TrainCompensation, progress: float) -> float:
    """Return 0: no image takes another path."""
    return 0.0


def pair(step: ReverseStep) -> TrainingPair:
    """Return the forward state at t and the target there."""
    return plain_pair(step.prediction, step.x0, step.eps, step.t, step.schedule)
