"""The one configuration of the pipeline, params.yaml: the settings of the components, and what must hold between them.

Only a variant's keys have defaults: params.yaml has every other value that a run depends on, so DVC sees it. Impossible
values and combinations are refused before any work; cspipe/config/params_file.py reads the file and explains what is
wrong.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cspipe.compensation import CompensationSettings
from cspipe.data.settings import ConditionSettings
from cspipe.diffusion.settings import DiffusionSettings
from cspipe.evaluation.settings import EvaluateSettings
from cspipe.ingest.settings import DataSettings
from cspipe.nets.backbone import Backbone
from cspipe.runtime.device import ComputeSettings
from cspipe.runtime.settings import Section, WholeNumber
from cspipe.runtime.tracking import TrackingSettings
from cspipe.sampling.settings import SampleSettings, Variant
from cspipe.training.settings import TrainSettings

VARIANT_NAME = r"^[a-z0-9][a-z0-9-]*$"
"""Pattern of a variant's name. It allows no dots, which DVC reads as paths into params.yaml."""


class Params(Section):
    """All of params.yaml."""

    seed: WholeNumber = Field(description="every random number of training follows from it")
    task: Literal["generate", "inpaint", "deocclude"] = Field(description="what the main net is trained for")
    compute: ComputeSettings
    data: DataSettings
    condition: ConditionSettings
    model: Backbone
    diffusion: DiffusionSettings
    train: TrainSettings
    compensation: CompensationSettings
    sample: SampleSettings
    variants: dict[Annotated[str, Field(pattern=VARIANT_NAME)], Variant] = Field(min_length=1)
    evaluate: EvaluateSettings
    tracking: TrackingSettings

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        self.model.check_size(self.data.size)
        self.model.check_steps(self.diffusion.steps)
        if self.data.size % 4:
            raise ValueError(f"data.size {self.data.size} must be a multiple of 4 (C halves it twice)")
        for name, variant in self.variants.items():
            try:
                variant.path(self.diffusion.steps)
            except ValueError as error:
                raise ValueError(f"variants.{name}.{error}, which is diffusion.steps") from None
            if variant.fits and self.task != "generate":
                raise ValueError(f"variants.{name}.sampler {variant.sampler} must be another with task {self.task}")
            if variant.snapshot is not None and variant.snapshot not in self.train.snapshots:
                raise ValueError(f"variants.{name}.snapshot {variant.snapshot} is not in train.snapshots; add it there")
        path = self.train.compensation.path or self.diffusion.steps
        if path > self.diffusion.steps or self.train.compensation.gap >= path:
            raise ValueError(
                f"train.compensation: the path has {path} steps, at most diffusion.steps ({self.diffusion.steps}) and "
                f"more than gap ({self.train.compensation.gap})"
            )
        first, t_max = -(-self.diffusion.steps // path), self.train.t_max
        if t_max is not None and not first <= t_max <= self.diffusion.steps:
            wrong = f"train.t_max {t_max} must be from {first} to diffusion.steps ({self.diffusion.steps}), or null"
            raise ValueError(wrong)
        if self.evaluate.images > self.sample.images:
            raise ValueError(f"evaluate.images {self.evaluate.images} must be at most sample.images")
        return self

    @model_validator(mode="after")
    def _task_has_its_conditions(self) -> Params:
        repaints = [(name, variant.repaint) for name, variant in self.variants.items() if variant.repaint is not None]
        for name, repaint in repaints:
            if self.task != "generate":
                raise ValueError(
                    f"variants.{name}.repaint must be null with task {self.task}: its net sees the input already"
                )
            if repaint.masks != (masks := repaints[0][1].masks):
                raise ValueError(
                    f"variants.{name}.repaint.masks {repaint.masks} must be {masks} as those of {repaints[0][0]}: the "
                    "report compares results of the same inputs"
                )
        if self.task == "inpaint" and not self.condition.masks and self.condition.mask_folder is None:
            raise ValueError("condition.masks is empty and condition.mask_folder null; inpainting needs masks")
        if self.task == "deocclude" and not self.condition.occluders and not self.data.paired:
            raise ValueError(
                f"condition.occluders is empty and data.source {self.data.source} gives no pairs; name occluders, "
                "or take pairs (data.avatars.paired)"
            )
        return self
