"""The U-Net of ADM (Dhariwal and Nichol 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from cspipe.nets.level_settings import LevelSettings
from cspipe.runtime.settings import Count

if TYPE_CHECKING:
    from torch import nn


class Settings(LevelSettings):
    """Those of every U-Net, and the size of its heads."""

    head_channels: Count = Field(description="channels per attention head")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for m in self.multipliers:
            width = self.channels * m
            if self.attention and width % self.head_channels:
                raise ValueError(
                    f"model.channels x {m} = {width} must be divisible by head_channels {self.head_channels}"
                )
        return self

    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """57.1 M parameters for CIFAR-10 with the keys of the preset."""
        from cspipe.nets.unet import UNet

        return UNet(**self.arguments(in_channels, out_channels, size))
