"""Typed facts and numbers of one run, from which the report is made. collect.py reads them from files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AliasChoices, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field

from cspipe.config.params import Params
from cspipe.sampling.settings import Variant

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
Fact = str | int | float | bool | None


class Scores(BaseModel):
    """Scores of one variant's samples; NaN (null in the file) where one could not be computed."""

    kid: Number = Field(description="kernel distance to the reference, unbiased: may be below 0")
    kid_std: Number = Field(description="its standard deviation over subsets")
    frechet: Number = Field(description="Frechet distance of Gaussians fit to the features")
    precision: Number = Field(description="share of samples inside the reference's manifold")
    recall: Number = Field(description="share of the reference inside the samples' manifold")


class Bracket(BaseModel):
    """KID and Frechet distance of real images outside the reference (best to hope for) and of uniform noise (worst)."""

    heldout_kid: Number
    heldout_frechet: Number
    noise_kid: Number
    noise_frechet: Number


class Interval(BaseModel):
    """A mean with its 95 % interval."""

    mean: Number
    low: Number
    high: Number


PairedScores = dict[str, dict[str, Interval]]
"""Intervals of scores against the truth, by family ("all" among them), then by measure."""


class Provenance(BaseModel):
    """Origin of the scores. Keys that the page needs are fields; all other keys are kept too."""

    model_config = ConfigDict(extra="allow")

    extractor: str
    reference_images: int
    reference_sha256: str
    samples_images: int
    images_seen: int
    kid_subsets: int
    kid_subset_size: int


class Metrics(BaseModel):
    """Content of metrics/<variant>.json; the label of the extractor is the key of its scores."""

    scores: Scores = Field(validation_alias=AliasChoices("efflite0", "inception"))
    nearest_ratio: Number = Field(validation_alias=AliasPath("memorisation", "nearest_ratio"))
    """Median distance to the nearest training image, that of samples over that of held-out images."""
    paired: list[dict[str, PairedScores]] = Field(max_length=1, default=[])
    """Scores of the result and of the baselines against the truth; empty for samples made from noise alone."""
    bracket: Bracket
    provenance: list[Provenance] = Field(min_length=1)


class ModelConfig(BaseModel):
    """The part of a model's config.json that the page needs."""

    parameters: int


class Split(BaseModel):
    """One split of the prepared data."""

    images: int


class Skipped(BaseModel):
    """An image that could not be used."""

    name: str
    reason: str


class Index(BaseModel):
    """Content of data/prepared/index.json: the facts about the images."""

    source: str
    style: str | None = None
    licence: Fact
    crop: Fact
    resize: Fact
    size: int
    channels: int
    paired: Fact
    comparable: str | None = None
    splits: dict[str, Split]
    skipped: list[Skipped]
    skipped_count: int
    other_kinds: str = ""
    """Numbers of files left out by kind, in words."""
    enlarged: int = 0
    """Number of images that were smaller than `size`."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image inside the page: a data URI, and its width and height in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class VariantResult:
    """Settings, scores and images of one variant, a row of the table."""

    name: str
    settings: Variant
    metrics: Metrics
    grid: EmbeddedImage
    neighbours: EmbeddedImage

    @property
    def scores(self) -> Scores:
        """Scores of the variant's samples."""
        return self.metrics.scores

    @property
    def paired(self) -> dict[str, PairedScores] | None:
        """Scores against the truth, as in Metrics; None for samples made from noise alone."""
        return self.metrics.paired[0] if self.metrics.paired else None


Columns = dict[str, list[float]]


@dataclass(frozen=True)
class Report:
    """Everything the page shows. `results` has one entry per variant of params, in that order.

    `curves` has the tables of curves/ by the names of collect.CURVES, columns by their names; a table has no
    rows where nothing was logged.
    """

    params: Params
    params_text: str
    index: Index
    preview: EmbeddedImage
    progress: EmbeddedImage
    parameters: int
    module_parameters: int
    results: list[VariantResult]
    curves: dict[str, Columns]

    @property
    def bracket(self) -> Bracket:
        """The bracket, the same for all variants (collect checks that they share reference and extractor)."""
        return self.results[0].metrics.bracket

    @property
    def provenance(self) -> Provenance:
        """Provenance of the first variant, for the entries that all variants share."""
        return self.results[0].metrics.provenance[0]

    @property
    def real(self) -> str:
        """The real images of the bracket, in words: the split that is not the reference."""
        return "held-out real images" if self.params.evaluate.reference == "train" else "real training images"

    @property
    def comparable_with_published(self) -> bool:
        """Whether scores use the features of published FIDs."""
        return self.params.evaluate.extractor == "inception-v3-compat"
