"""NCSN++ (Song et al. 2021, as trained anew by Karras et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspipe.nets.level_settings import LevelSettings

if TYPE_CHECKING:
    from torch import nn


class Settings(LevelSettings):
    """Karras et al.'s for CIFAR-10: channels 128, blocks 4, multipliers [2, 2, 2], attention [16], dropout 0.13."""

    def build(self, in_channels: int, out_channels: int, size: int) -> nn.Module:
        """56.4 M parameters for CIFAR-10."""
        from cspipe.nets.ncsnpp import NCSNpp

        return NCSNpp(**self.arguments(in_channels, out_channels, size))
