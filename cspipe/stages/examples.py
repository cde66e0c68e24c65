"""What the nets of a task are trained on."""

from __future__ import annotations

from cspipe.config.params import Params
from cspipe.data.conditions import open_conditions
from cspipe.data.shards import Shards
from cspipe.stages.stage import PREPARED
from cspipe.training.examples import Examples


def open_examples(params: Params, images: Shards) -> Examples:
    """The training images with the conditions of the task. Raises UserError if the task needs what they lack."""
    return Examples(images, open_conditions(params.task, params.condition, images, PREPARED), params.seed)
