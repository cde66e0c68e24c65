"""Base classes of the main nets' settings: the keys of `model` in params.yaml common to all nets, or to U-Nets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Self

from pydantic import Field, SerializeAsAny, model_validator
from torch import nn

from cspipe.runtime.settings import Count, Number, Section, SettingsOf

BACKBONES = "cspipe.backbones"


class BackboneSettings(Section, ABC):
    """Base class of a main net's settings in params.yaml, which check image size and timesteps and build the net."""

    name: str = Field(description="the main net, a file of cspipe/backbones")

    @abstractmethod
    def check_size(self, size: int) -> None:
        """Check that the net takes images of size x size pixels. Raises ValueError naming key, value and fix."""

    def check_steps(self, steps: int) -> None:
        """Check that the net works with a process of `steps` native steps. Raises ValueError naming key and value."""

    @abstractmethod
    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """Build the net, called as net(x, t) with x (N, in_channels, size, size) and t (N,) in 0..1000.

        The net returns (N, out_channels, size, size) in x's type, also under autocast; its output starts at 0. The
        channels of a condition follow those of the image in x. The net's state dict holds parameters alone.
        """

    def arguments(self, in_channels: int, out_channels: int, size: int) -> dict[str, Any]:
        """Return the arguments of the net's class: all keys but the name, and channels and size of the images."""
        shape = {"in_channels": in_channels, "out_channels": out_channels, "size": size}
        return {**shape, **self.model_dump(exclude={"name"})}


Backbone = Annotated[SerializeAsAny[BackboneSettings], SettingsOf(BACKBONES, BackboneSettings)]
"""The section `model`: the name of the main net, and the keys of the file of that name in cspipe/backbones."""


class LevelSettings(BackboneSettings):
    """Settings common to the U-Nets of this package (cspipe/nets/levels.py)."""

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
        """Check that levels can halve the size and that attention is at existing resolutions. Raises ValueError."""
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
