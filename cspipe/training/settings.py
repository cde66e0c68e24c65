"""The section `train` of params.yaml; every length is in images seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from cspipe.compensation import Weighting
from cspipe.runtime.settings import Count, Number, Rate, Section, Share, WholeNumber, file_of

METHODS = "cspipe.methods"


class TrainCompensation(Weighting):
    """Settings of the part of training on the net's own reverse steps (not used with method plain)."""

    share: Share = Field(description="share of each batch on that path when it starts")
    fade: Share = Field(description="fraction of training over which the share falls to 0; 0: constant")
    start: WholeNumber = Field(description="images of plain training before the path and the fit of C start")
    epochs: Count = Field(description="passes in which C is fit beside the young main net, then frozen")
    path: Count | None = Field(description="steps of the sampler that is trained for; null: all native steps")
    gap: Count = Field(description="steps of it from t to s")


class StartFrom(Section):
    """A model from whose weights training starts."""

    folder: Path = Field(description="of a main net, such as `cspipe import` writes")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of its model.safetensors: DVC sees other weights by it")


class TrainSettings(Section):
    """Settings of the training of the main net."""

    method: Annotated[str, file_of(METHODS)] = Field(description="how training states are made")
    loss: Literal["l2", "l1"] = Field(description="distance between the net's output and its target")
    perturbation: Share = Field(description="input perturbation: extra noise in units of the noise of x_t; 0: none")
    timesteps: Literal["uniform", "lognormal"] = Field(
        description="how likely each is in training; lognormal: EDM's, ln sigma ~ N(-1.2, 1.2^2)"
    )
    t_max: Count | None = Field(description="highest timestep trained at; null: T. Sampling starts at T all the same")
    images: Count = Field(description="images to see in all")
    batch: Count = Field(description="images per optimizer step")
    micro_batch: Count = Field(
        description="images per forward pass; gradients add up to the batch, dropout differs"
    )
    learning_rate: Rate = Field(description="AdamW step size after the warm-up")
    warmup: WholeNumber = Field(description="images of linear warm-up")
    cooldown: Share = Field(description="fraction of training, at its end, over which the step size falls to 0")
    weight_decay: Share = Field(description="AdamW decoupled weight decay")
    clip: Annotated[Number, Field(gt=0)] = Field(description="largest gradient norm")
    ema_half_life: Count = Field(description="images after which the EMA forgets half")
    flip: StrictBool = Field(description="mirror half of the images")
    checkpoint_every: Count = Field(description="images between training states: the most a kill can lose")
    log_every: Count = Field(description="images between points of the curves")
    grid_every: Count = Field(description="images between the rows of progress.png; a shorter training has one row")
    snapshots: list[Count] = Field(description="images after which the EMA weights are kept, or at the end before")
    start_from: StartFrom | None = Field(description="a model whose weights, its EMA, training starts from; null: none")
    compensation: TrainCompensation

    @model_validator(mode="after")
    def _batches_fit(self) -> TrainSettings:
        if self.batch % self.micro_batch:
            raise ValueError(f"train.micro_batch {self.micro_batch} must divide train.batch {self.batch}")
        if self.method == "weight_control" and self.loss == "l1":
            raise ValueError("train.loss l1: the weights of train.method weight_control are for l2")
        if self.images < self.batch:
            raise ValueError(f"train.images {self.images} must be at least one train.batch ({self.batch})")
        return self
