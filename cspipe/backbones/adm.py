"""The U-Net of ADM (Dhariwal and Nichol 2021)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cspipe.nets.backbone import LevelSettings
from cspipe.nets.unet import UNet
from cspipe.runtime.settings import Count


class Settings(LevelSettings):
    """Settings of ADM's U-Net: those of every U-Net, and the size of the attention heads."""

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

    def build(self, in_channels: int, out_channels: int, size: int) -> UNet:
        """Build the U-Net: 57.1 M parameters for CIFAR-10 with the settings of the preset."""
        return UNet(**self.arguments(in_channels, out_channels, size))
