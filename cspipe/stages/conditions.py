"""Held-out images with the conditions of a task: the inputs that a variant is sampled for."""

from __future__ import annotations

from typing import Literal

from cspipe.config.params import Params
from cspipe.data.conditions import open_conditions
from cspipe.data.held_out import HeldOut
from cspipe.data.settings import ConditionSettings
from cspipe.data.shards import open_split
from cspipe.runtime.stage import PREPARED


def task_of(params: Params, name: str) -> Literal["generate", "inpaint", "deocclude"]:
    """Task of a variant: that of the main net, or inpaint if it fills holes with a net of task generate (`repaint`)."""
    return params.task if params.variants[name].repaint is None else "inpaint"


def open_held_out(params: Params, name: str) -> HeldOut | None:
    """Open the inputs of a variant, held-out images; None if it samples from noise alone. Raises UserError."""
    task, repaint = task_of(params, name), params.variants[name].repaint
    if task == "generate":
        return None
    images = open_split(PREPARED, "test")
    settings, count = params.condition, params.sample.images
    if repaint is not None:
        settings = ConditionSettings(masks=repaint.masks, mask_folder=None, occluders=[])
        count = min(count, len(set(settings.masks)) * len(images))  # sampling from noise alone has no such bound
    conditions = open_conditions(task, settings, images, PREPARED)
    assert conditions is not None, "there is one for every other task"
    return HeldOut(images, conditions, params.sample.seed, count)
