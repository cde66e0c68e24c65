"""Held-out images with the conditions of a task: what a variant is sampled for."""

from __future__ import annotations

from cspipe.config.params import Params, task_of
from cspipe.data.conditions import open_conditions
from cspipe.data.held_out import HeldOut
from cspipe.data.settings import ConditionSettings
from cspipe.data.shards import open_split
from cspipe.runtime.stage import PREPARED


def open_held_out(params: Params, name: str) -> HeldOut | None:
    """Held-out images with their conditions for a variant; None where it samples from noise alone. Raises UserError."""
    variant = params.variants[name]
    task = task_of(params, variant)
    if task == "generate":
        return None
    images = open_split(PREPARED, "test")
    settings, count = params.condition, params.sample.images
    if variant.repaint is not None:
        settings = ConditionSettings(masks=variant.repaint.masks, mask_folder=None, occluders=[])
        count = min(count, len(settings.masks) * len(images))  # samples of noise alone have no such bound
    conditions = open_conditions(task, settings, images, PREPARED)
    assert conditions is not None, "there is one for every other task"
    return HeldOut(images, conditions, params.sample.seed, count)
