"""What the nets of a task are trained on."""

from __future__ import annotations

from cspipe.config.params import Params
from cspipe.data.conditions import open_conditions
from cspipe.data.shards import Shards
from cspipe.stages.stage import PREPARED
from cspipe.training.stream import TrainingSet


def open_training_set(params: Params, images: Shards) -> TrainingSet:
    """The training images with the conditions of the task. Raises UserError if the task needs what they lack."""
    return TrainingSet(images, open_conditions(params.task, params.condition, images, PREPARED), params.seed)
