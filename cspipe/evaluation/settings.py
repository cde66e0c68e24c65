"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cspipe.runtime.settings import Count, Section

INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth (from the releases of github.com/toshas/torch-fidelity)"

FEWEST = 4
"""Fewest images of a set that is scored: precision and recall look at the third neighbour."""


class LpipsSettings(Section):
    """Learned perceptual distance (Zhang et al. 2018)."""

    net: Literal["alex", "vgg"] = Field(description="whose features are compared")
    weights: Path = Field(description="file of torchvision's ImageNet weights of that net")


class EvaluateSettings(Section):
    """The scores: their extractor, reference, numbers of images, and perceptual distance."""

    extractor: Literal["efficientnet-lite0", "inception-v3-compat"] = Field(description="features of every score")
    weights: Path | None = Field(description="file of the extractor's weights; null: the packaged ones")
    reference: Literal["train", "test"] = Field(description="split that the samples are compared with")
    images: Count = Field(ge=FEWEST, description="N: images of each side of a comparison, at most")
    batch: Count = Field(description="images per pass of the extractor")
    kid_subsets: Count = Field(description="subsets whose spread KID reports")
    kid_subset_size: Annotated[int, Field(ge=2, strict=True)] = Field(description="images per subset")
    neighbours: Count = Field(le=64, description="samples shown beside their nearest training images")
    lpips: LpipsSettings | None = Field(
        description="of inpaint and deocclude; null: distance of the extractor's features"
    )

    @model_validator(mode="after")
    def _subsets_fit(self) -> EvaluateSettings:
        if self.kid_subset_size > self.images:
            raise ValueError(f"evaluate.kid_subset_size {self.kid_subset_size} must be at most evaluate.images")
        if self.extractor == "inception-v3-compat" and self.weights is None:
            raise ValueError(
                f"evaluate.weights must name the file {INCEPTION_WEIGHTS} with extractor inception-v3-compat"
            )
        return self
