"""The U-Net of DDPM (Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models", 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from cspipe.nets.backbone import LevelSettings
from cspipe.nets.blocks import Resample, TimeEmbedding, group_norm, xavier, xavier_linears, zeroed
from cspipe.nets.levels import Levels, decoder, encoder
from cspipe.nets.time_added import EPS, TimeAddedBlock, TimeAddedStage


class Halve(nn.Module):
    """Downsampling by a convolution of stride 2; zeros are padded on the right and below alone, as in the source."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = xavier(nn.Conv2d(width, width, 3, stride=2))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (N, width, H, W) to (N, width, H / 2, W / 2); the time embedding is not used."""
        out: Tensor = self.conv(pad(x, (0, 1, 0, 1)))
        return out


class Double(nn.Module):
    """Upsampling by nearest neighbours to twice the resolution, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = xavier(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (N, width, H, W) to (N, width, 2 H, 2 W); the time embedding is not used."""
        out: Tensor = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class DDPM(Levels):
    """DDPM's U-Net; level i works at size / 2^i pixels with channels * multipliers[i] feature channels.

    Its stages are arranged as in ADM's U-Net. Attention has one head; the middle always has attention.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        size: int,
        channels: int,
        blocks: int,
        multipliers: Sequence[int],
        attention: Sequence[int],
        dropout: float,
    ) -> None:
        """size: pixels, a multiple of 2^(levels - 1); attention: resolutions, in pixels."""
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        heads = [width if size >> level in attention else None for level, width in enumerate(widths)]
        stage = partial(_stage, embedding=4 * channels, dropout=dropout)
        # 10000^(-i / (half - 1)): the source's last frequency is 1/10000, that of Vaswani et al. is a little above it.
        self.time = TimeEmbedding(torch.logspace(0, -4, channels // 2), 4 * channels)
        xavier_linears(self.time)
        self.stem = xavier(nn.Conv2d(in_channels, channels, 3, padding=1))
        self.encoder, skips = encoder(stage, widths, heads, blocks, channels)
        self.middle = nn.ModuleList([stage(widths[-1], widths[-1], widths[-1]), stage(widths[-1], widths[-1])])
        self.decoder = decoder(stage, widths, heads, skips)
        last = zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(widths[0], EPS), nn.SiLU(), last)


def _stage(
    in_channels: int,
    out_channels: int,
    head_channels: int | None = None,
    resample: Resample = "same",
    *,
    embedding: int,
    dropout: float,
) -> nn.Module:
    if resample != "same":
        return Halve(in_channels) if resample == "down" else Double(in_channels)
    block = TimeAddedBlock(in_channels, out_channels, embedding, dropout)
    # Queries, keys and values are one layer here and three in the source: each starts by its own fan out.
    return TimeAddedStage(block, out_channels, head_channels is not None, gain=2**0.5)


class Settings(LevelSettings):
    """Settings of DDPM's U-Net.

    The source's for CIFAR-10 are channels 128, blocks 2, multipliers [1, 2, 2, 2], attention [16], dropout 0.1.
    """

    def build(self, in_channels: int, out_channels: int, size: int) -> DDPM:
        """Build the U-Net: 35.7 M parameters for CIFAR-10 with the source's settings."""
        return DDPM(**self.arguments(in_channels, out_channels, size))
