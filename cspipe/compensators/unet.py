"""The default module: a light U-Net."""

from __future__ import annotations

from cspipe.nets.unet import UNet


def build(taken: int, given: int, size: int, width: int) -> UNet:
    """ADM's U-Net with one block per level, two halvings and no attention (5.2 M parameters at 64)."""
    return UNet(
        in_channels=taken,
        out_channels=given,
        size=size,
        channels=width,
        blocks=1,
        multipliers=(1, 2, 2),
        attention=(),
        head_channels=width,
        dropout=0.0,
    )
