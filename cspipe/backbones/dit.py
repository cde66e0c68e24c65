"""DiT, the diffusion transformer (Peebles and Xie 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from cspipe.backbones import BackboneSettings
from cspipe.runtime.settings import Count, Number

if TYPE_CHECKING:
    from torch import nn


class Settings(BackboneSettings):
    """The source's DiT-S/2: channels 384, depth 12, head_channels 64, patch 2, dropout 0."""

    channels: Count = Field(description="width: channels of a token")
    depth: Count = Field(description="blocks of attention and MLP")
    head_channels: Count = Field(description="channels per attention head")
    patch: Count = Field(description="pixels, height and width of what becomes a token")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(description="probability, in the MLPs; the source has 0")

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        if self.channels % 4:
            raise ValueError(f"model.channels {self.channels} must be divisible by 4 (waves of row and column)")
        if self.channels % self.head_channels:
            raise ValueError(f"model.channels {self.channels} must be divisible by head_channels {self.head_channels}")
        return self

    def check_size(self, size: int) -> None:
        """Patches must fill the picture. Raises ValueError."""
        if size % self.patch:
            raise ValueError(f"data.size {size} must be a multiple of model.patch {self.patch}")

    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """(size / patch)^2 tokens: attention takes the fourth power of the size."""
        from cspipe.nets.dit import DiT

        keys = self.model_dump(exclude={"name"})
        return DiT(in_channels=in_channels, out_channels=out_channels, size=size, **keys)
