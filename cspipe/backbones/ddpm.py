"""The U-Net of DDPM (Ho et al. 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.nets.level_settings import LevelSettings

if TYPE_CHECKING:
    from torch import nn


class Settings(LevelSettings):
    """The source's for CIFAR-10: channels 128, blocks 2, multipliers [1, 2, 2, 2], attention [16], dropout 0.1."""

    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """35.7 M parameters for CIFAR-10."""
        from cspipe.nets.ddpm import DDPM

        return DDPM(**self.arguments(in_channels, out_channels, size))
