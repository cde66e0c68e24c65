"""The one configuration of the pipeline: pydantic models of params.yaml.

No field has a default: params.yaml is complete, so DVC sees every value a run depends on. Impossible values and
combinations are refused before any work. cspipe/config/params_file.py reads the file and explains what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, StrictBool, model_validator

from cspipe.backbones import BackboneSettings
from cspipe.corrections.compensation import Weighting
from cspipe.runtime.registry import find
from cspipe.runtime.settings import (
    Count,
    Number,
    Rate,
    Section,
    SettingsOf,
    Share,
    WholeNumber,
    file_of,
    key_of,
    no_switch,
)
from cspipe.sampling.variants import Variant
from cspipe.tasks.deocclude import OCCLUDERS
from cspipe.tasks.inpaint import MASKS

SOURCES, NETS = "cspipe.sources", "cspipe.compensators"
METHODS, BACKBONES = "cspipe.methods", "cspipe.backbones"
"""Packages whose files are choices: what they are called in params.yaml is the name of the file."""
Backbone = Annotated[SerializeAsAny[BackboneSettings], SettingsOf(BACKBONES, BackboneSettings)]
"""The section `model`: the main net, with the keys of the file that its name names."""
INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth (from the releases of github.com/toshas/torch-fidelity)"


class Compute(Section):
    """What the work runs on."""

    device: Literal["auto", "cpu", "cuda"] = Field(description="auto takes the GPU when there is one")
    precision: Literal["float32", "bfloat16"] = Field(description="bfloat16: autocast of the nets, on CUDA only")
    compile: StrictBool = Field(description="torch.compile the main net (needs a C++ compiler or Triton)")
    threads: Count = Field(description="CPU threads of torch; part of the result: other counts sum in another order")


class Avatars(Section):
    """Rendered faces (DiceBear styles)."""

    style: Literal["pixel-art", "open-peeps", "voxel-art", "lorelei", "notionists"] = Field(description="CC0 styles")
    paired: Literal["none", "glasses", "mask"] = Field(description="also render each face with this in front")


class Data(Section):
    """The pictures."""

    source: Annotated[str, file_of(SOURCES)] = Field(description="where pictures come from")
    path: Path | None = Field(description="what the source reads, null for avatars")
    size: Count = Field(le=1024, description="pixels, height and width after the crop")
    channels: Annotated[Literal[1, 3], BeforeValidator(no_switch)] = Field(description="1 grey, 3 RGB")
    crop: Literal["center", "stretch"] = Field(description="centre square, or squeeze the whole picture")
    limit: Count | None = Field(description="pictures at most, train and test together; null: all")
    held_out: Literal["official"] | Annotated[Number, Field(gt=0, lt=1)] = Field(
        description="share of the pictures kept as the test split, or official for a source that has one"
    )
    avatars: Avatars

    @model_validator(mode="after")
    def _path_fits_source(self) -> Data:
        reads_path = find(SOURCES, self.source, "READS_PATH")
        if reads_path and self.path is None:
            raise ValueError(f"data.path must name a file or folder with data.source {self.source}")
        if not reads_path and self.path is not None:
            raise ValueError(f"data.path must be null with data.source {self.source} (pictures are made, not read)")
        if not reads_path and self.limit is None:
            raise ValueError(f"data.limit must be a number with data.source {self.source} (there is no end to them)")
        official = find(SOURCES, self.source, "OFFICIAL_SPLIT")
        if official != (self.held_out == "official"):
            need = "official (it has its own test split)" if official else "a share between 0 and 1"
            raise ValueError(f"data.held_out must be {need} with data.source {self.source}")
        return self

    @property
    def test_share(self) -> float:
        """data.held_out of a source without an official split."""
        assert self.held_out != "official", "params.yaml is refused with official for such a source"
        return self.held_out

    @property
    def paired(self) -> bool:
        """Whether there is a second picture of each scene, with something in front."""
        gives: bool = find(SOURCES, self.source, "PAIRED")
        return gives and (self.source != "avatars" or self.avatars.paired != "none")


class Condition(Section):
    """What the net sees beside x_t, in the tasks inpaint and deocclude."""

    masks: list[Annotated[str, key_of(MASKS)]] = Field(description="inpaint: families, one drawn for each picture")
    mask_folder: Path | None = Field(description="inpaint: own masks, white where the hole is; null: none")
    occluders: list[Annotated[str, key_of(OCCLUDERS)]] = Field(
        description="deocclude: drawn in front of the clean pictures; []: the pairs of the data"
    )


class Diffusion(Section):
    """The forward process and what the main net predicts."""

    steps: Annotated[int, Field(ge=2, le=10_000, strict=True)] = Field(description="T, native steps")
    schedule: Literal["linear", "cosine", "karras"] = Field(
        description="linear betas scaled by 1000/T, cosine alpha-bar, or EDM's noise levels"
    )
    prediction: Literal["eps", "x0", "v", "edm"] = Field(description="what the main net outputs; edm: preconditioned")
    self_condition: StrictBool = Field(description="tell the main net its clean estimate of the step before")


class TrainCompensation(Weighting):
    """The path of train.method through the net's own reverse steps (not used with plain)."""

    share: Share = Field(description="share of each batch on that path when it starts")
    fade: Share = Field(description="fraction of training over which the share falls to 0; 0: constant")
    start: WholeNumber = Field(description="images of plain training before the path and the module's fit start")
    epochs: Count = Field(description="passes in which the module is fit beside the young main net, then frozen")
    path: Count | None = Field(description="steps of the sampler that is trained for; null: all native steps")
    gap: Count = Field(description="steps of it from t to s")


class Train(Section):
    """Training of the main net; every length is in images seen."""

    method: Annotated[str, file_of(METHODS)] = Field(description="how training states are made")
    perturbation: Share = Field(description="input perturbation: extra noise in units of the noise of x_t; 0: none")
    images: Count = Field(description="images to see in all")
    batch: Count = Field(description="images per optimizer step")
    micro_batch: Count = Field(description="images per forward pass; gradients add up to the batch")
    learning_rate: Rate = Field(description="AdamW step size after the warm-up")
    warmup: WholeNumber = Field(description="images of linear warm-up")
    cooldown: Share = Field(description="fraction of training, at its end, over which the step size falls to 0")
    weight_decay: Share = Field(description="AdamW decoupled weight decay")
    clip: Annotated[Number, Field(gt=0)] = Field(description="largest gradient norm")
    ema_half_life: Count = Field(description="images after which the EMA forgets half")
    flip: StrictBool = Field(description="mirror half of the pictures")
    checkpoint_every: Count = Field(description="images between training states: the most a kill can lose")
    log_every: Count = Field(description="images between points of the curves")
    grid_every: Count = Field(description="images between the sample rows of progress.png")
    compensation: TrainCompensation

    @model_validator(mode="after")
    def _batches_fit(self) -> Train:
        if self.batch % self.micro_batch:
            raise ValueError(f"train.micro_batch {self.micro_batch} must divide train.batch {self.batch}")
        if self.images < self.batch:
            raise ValueError(f"train.images {self.images} must be at least one train.batch ({self.batch})")
        return self


class Compensation(Section):
    """The module C, and its fit against the finished main net."""

    net: Annotated[str, file_of(NETS)] = Field(description="architecture of C")
    channels: Count = Field(description="width of C")
    epochs: Count = Field(description="passes over the training set in the compensate stage")
    batch: Count = Field(description="images per optimizer step")
    learning_rate: Rate = Field(description="AdamW step size")
    loss: Literal["l2", "l1"] = Field(description="distance between C and x0 - x0h")
    states: Literal["forward", "reverse"] = Field(description="x_t of its fit: forward, or after the net's DDIM step")

    @model_validator(mode="after")
    def _groups_divide(self) -> Compensation:
        if self.channels % 16:
            raise ValueError(f"compensation.channels {self.channels} must be divisible by 16 (groups and heads)")
        return self


class Sample(Section):
    """How many samples, from which seeds."""

    images: Count = Field(description="samples per variant")
    batch: Count = Field(description="samples per forward pass; does not change them")
    seed: WholeNumber = Field(description="seed of the first sample; sample i takes seed + i")


class Lpips(Section):
    """Learned perceptual distance (Zhang et al. 2018)."""

    net: Literal["alex", "vgg"] = Field(description="whose features are compared")
    weights: Path = Field(description="file of torchvision's ImageNet weights of that net")


class Evaluate(Section):
    """The scores."""

    extractor: Literal["efficientnet-lite0", "inception-v3-compat"] = Field(description="features of every score")
    weights: Path | None = Field(description="file of the extractor's weights; null: the packaged ones")
    reference: Literal["train", "test"] = Field(description="split that the samples are compared with")
    images: Count = Field(description="N: pictures of each side of a comparison, at most")
    batch: Count = Field(description="pictures per pass of the extractor")
    kid_subsets: Count = Field(description="subsets whose spread KID reports")
    kid_subset_size: Annotated[int, Field(ge=2, strict=True)] = Field(description="pictures per subset")
    neighbours: Count = Field(le=64, description="samples shown beside their nearest training pictures")
    lpips: Lpips | None = Field(description="of inpaint and deocclude; null: distance in the extractor's features")

    @model_validator(mode="after")
    def _subsets_fit(self) -> Evaluate:
        if self.kid_subset_size > self.images:
            raise ValueError(f"evaluate.kid_subset_size {self.kid_subset_size} must be at most evaluate.images")
        if self.extractor == "inception-v3-compat" and self.weights is None:
            raise ValueError(
                f"evaluate.weights must name the file {INCEPTION_WEIGHTS} with extractor inception-v3-compat"
            )
        return self


class Tracking(Section):
    """Where curves go besides the files."""

    wandb: Literal["disabled", "offline", "online"] = Field(description="Weights & Biases")
    project: str = Field(min_length=1, description="its project name")


VARIANT_NAME = r"^[a-z0-9][a-z0-9-]*$"
"""No dots: DVC reads them as paths into params.yaml."""


class Params(Section):
    """All of params.yaml."""

    seed: WholeNumber = Field(description="every random number of training follows from it")
    task: Literal["generate", "inpaint", "deocclude"] = Field(description="what the main net is trained for")
    compute: Compute
    data: Data
    condition: Condition
    model: Backbone
    diffusion: Diffusion
    train: Train
    compensation: Compensation
    sample: Sample
    variants: dict[Annotated[str, Field(pattern=VARIANT_NAME)], Variant] = Field(min_length=1)
    evaluate: Evaluate
    tracking: Tracking

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        self.model.check_size(self.data.size)
        if self.data.size % 4:
            raise ValueError(f"data.size {self.data.size} must be a multiple of 4 (the module halves twice)")
        for name, variant in self.variants.items():
            if variant.steps > self.diffusion.steps:
                raise ValueError(
                    f"variants.{name}.steps {variant.steps} must be at most diffusion.steps {self.diffusion.steps}"
                )
        path = self.train.compensation.path or self.diffusion.steps
        if path > self.diffusion.steps or self.train.compensation.gap >= path:
            raise ValueError(
                f"train.compensation: the path has {path} steps, at most diffusion.steps ({self.diffusion.steps}) and "
                f"more than gap ({self.train.compensation.gap})"
            )
        if self.evaluate.images > self.sample.images:
            raise ValueError(f"evaluate.images {self.evaluate.images} must be at most sample.images")
        return self

    @model_validator(mode="after")
    def _task_has_its_conditions(self) -> Params:
        repaints = [name for name, variant in self.variants.items() if variant.repaint is not None]
        if repaints and self.task != "generate":
            raise ValueError(
                f"variants.{repaints[0]}.repaint must be null with task {self.task}: its net sees the input already"
            )
        if self.task == "inpaint" and not self.condition.masks and self.condition.mask_folder is None:
            raise ValueError("condition.masks is empty and condition.mask_folder null; inpainting needs masks")
        if self.task == "deocclude" and not self.condition.occluders and not self.data.paired:
            raise ValueError(
                f"condition.occluders is empty and data.source {self.data.source} gives no pairs; name occluders, "
                "or take pairs (data.avatars.paired)"
            )
        return self


def task_of(params: Params, variant: Variant) -> Literal["generate", "inpaint", "deocclude"]:
    """What a variant does: the task of the main net, but for one that fills holes with a net of task generate."""
    return params.task if variant.repaint is None else "inpaint"
