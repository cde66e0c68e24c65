"""What the net is told when a variant is sampled: conditions of held-out pictures."""

from __future__ import annotations

from cspipe.config.params import Params, task_of
from cspipe.data.conditions import open_conditions
from cspipe.data.held_out import HeldOut
from cspipe.data.settings import ConditionSettings
from cspipe.data.shards import open_split
from cspipe.sampling.settings import Variant
from cspipe.stages.stage import PREPARED


def open_inputs(params: Params, variant: Variant) -> HeldOut | None:
    """What the net is told, of held-out pictures; None where it samples from noise alone. Raises UserError."""
    task = task_of(params, variant)
    if task == "generate":
        return None
    pictures = open_split(PREPARED, "test")
    settings, count = params.condition, params.sample.images
    if variant.repaint is not None:
        settings = ConditionSettings(masks=variant.repaint.masks, mask_folder=None, occluders=[])
        count = min(count, len(settings.masks) * len(pictures))  # samples of noise alone have no such bound
    conditions = open_conditions(task, settings, pictures, PREPARED)
    assert conditions is not None, "there is one for every other task"
    return HeldOut(pictures, conditions, params.sample.seed, count)
