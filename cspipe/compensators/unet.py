"""The default net C: a light U-Net."""

from __future__ import annotations

from cspipe.nets.unet import UNet


def build(in_channels: int, out_channels: int, size: int, width: int) -> UNet:
    """Build ADM's U-Net with one block per level, two halvings and no attention (5.2 M parameters at width 64)."""
    return UNet(
        in_channels=in_channels,
        out_channels=out_channels,
        size=size,
        channels=width,
        blocks=1,
        multipliers=(1, 2, 2),
        attention=(),
        head_channels=width,
        dropout=0.0,
    )
