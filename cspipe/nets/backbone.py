"""What every main net has in common: the keys of `model` in params.yaml, and those of the U-Nets among them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Self

from pydantic import Field, SerializeAsAny, model_validator
from torch import nn

from cspipe.runtime.settings import Count, Number, Section, SettingsOf

BACKBONES = "cspipe.backbones"


class BackboneSettings(Section, ABC):
    """What params.yaml says of the main net, and how that becomes one."""

    name: str = Field(description="the main net, a file of cspipe/backbones")

    @abstractmethod
    def check_size(self, size: int) -> None:
        """Whether it takes images of size x size pixels. Raises ValueError naming key, value and fix."""

    def check_steps(self, steps: int) -> None:
        """Whether it can be told t of a process of so many native steps. Raises ValueError naming key and value."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """The net, called as net(x, t) with x (N, in_channels, size, size) and t (N,) in 0..1000.

        It returns (N, out_channels, size, size) in x's type, also under autocast; its output starts at 0. A condition
        stands in the channels of x after those of the image. A state dict of it holds parameters alone.
        """

    def arguments(self, in_channels: int, out_channels: int, size: int) -> dict[str, Any]:
        """Of the class of the net: the keys but for the name, and what the images decide."""
        shape = {"in_channels": in_channels, "out_channels": out_channels, "size": size}
        return {**shape, **self.model_dump(exclude={"name"})}


Backbone = Annotated[SerializeAsAny[BackboneSettings], SettingsOf(BACKBONES, BackboneSettings)]
"""The section `model`: the main net, with the keys of the file that its name names."""


class LevelSettings(BackboneSettings):
    """The keys of a U-Net."""

    channels: Count = Field(description="feature channels that the multipliers multiply, a multiple of 16")
    blocks: Count = Field(description="residual blocks per level")
    multipliers: list[Count] = Field(min_length=1, description="channel factor per level, one halving between two")
    attention: list[Count] = Field(description="resolutions, in pixels, that get self-attention")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(description="probability, in the residual blocks")

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        for m in (1, *self.multipliers):
            width = self.channels * m
            if width % 16:
                raise ValueError(f"model.channels x {m} = {width} must be divisible by 16 (group normalisation)")
        return self

    def check_size(self, size: int) -> None:
        """The size must be halved between levels, and attention named by sizes that occur. Raises ValueError."""
        levels = len(self.multipliers)
        factor = 2 ** (levels - 1)
        if size % factor or size < 2 * factor:
            raise ValueError(
                f"data.size {size} must be a multiple of {factor} and at least {2 * factor}: "
                f"model.multipliers has {levels} levels and halves {levels - 1} times"
            )
        resolutions = [size >> level for level in range(levels)]
        for resolution in self.attention:
            if resolution not in resolutions:
                raise ValueError(f"model.attention {resolution} is no resolution of the net; it has {resolutions}")
