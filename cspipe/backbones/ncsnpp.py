"""NCSN++ (Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", 2021).

This is the form that Karras et al. (2022) retrained: a residual pyramid of the input in the encoder, and in the decoder
attention after the last stage alone of a level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from cspipe.nets.backbone import LevelSettings
from cspipe.nets.blocks import Resample, TimeEmbedding, group_norm, xavier, xavier_linears, zeroed
from cspipe.nets.levels import Levels, decoder, encoder
from cspipe.nets.time_added import EPS, TimeAddedBlock, TimeAddedStage

SCALE = math.sqrt(0.5)
"""Factor on every sum of two paths, which keeps its variance."""
FOURIER = 16.0
"""Standard deviation of the Fourier frequencies, in turns per unit of t / 1000."""


def fourier(count: int) -> Tensor:
    """Return angular frequencies (count,) of t in 0..1000: quantiles of the absolute value of a normal variable.

    The source draws them once and stores them with the net; quantiles have the same distribution and need no storing.
    The source's unit is log sigma, which spans 8.5; here it is t / 1000, which spans 1: the net gets t in any schedule.
    """
    shares = (torch.arange(count) + 0.5) / count
    quantiles: Tensor = torch.special.ndtri(0.5 + shares / 2)
    return 2 * math.pi * FOURIER / 1000 * quantiles


class Smooth(nn.Module):
    """Filter every channel by [1, 3, 3, 1] along rows and columns, and halve or double the resolution, or do neither.

    "same" makes H and W one pixel larger, for the convolution without padding that follows it in the pyramid.
    """

    kernel: Tensor

    def __init__(self, resample: Resample) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4 if resample == "up" else 8)
        self.resample = resample
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, C, H, W) to (N, C, H', W'), H' = H + 1, H/2 or 2H."""
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, 4, 4)
        if self.resample == "up":
            return conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)
        if self.resample == "down":
            return conv2d(x, kernel, stride=2, padding=1, groups=channels)
        return conv2d(x, kernel, padding=2, groups=channels)


class NCSNpp(Levels):
    """NCSN++; level i works at size / 2^i pixels with channels * multipliers[i] feature channels.

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
        self.time = TimeEmbedding(fourier(channels), 4 * channels)
        xavier_linears(self.time)
        self.stem = xavier(nn.Conv2d(in_channels, channels, 3, padding=1))
        self.encoder, skips = encoder(stage, widths, heads, blocks, channels)
        self.pyramid = _pyramid([in_channels, *widths[:-1]])
        self.per_level = blocks + 1
        self.middle = nn.ModuleList([stage(widths[-1], widths[-1], widths[-1]), stage(widths[-1], widths[-1])])
        self.decoder = decoder(stage, widths, heads, skips, attend_last=True)
        last = zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(widths[0], EPS), nn.SiLU(), last)

    def descend(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Run the encoder; the pyramid adds the halved input to the first halving, then each halved sum to the next."""
        skips = [self.stem(x)]
        joined = x
        for place, stage in enumerate(self.encoder, start=1):
            h = stage(skips[-1], embedding)
            if place % self.per_level == 0:
                h = joined = (h + self.pyramid[place // self.per_level - 1](joined)) * SCALE
            skips.append(h)
        return skips


def _pyramid(widths: list[int]) -> nn.ModuleList:
    """Build a smoothing convolution per halving, from the width of the sum before to that of the halving stage."""
    steps = nn.ModuleList()
    for in_channels, out_channels in pairwise(widths):
        steps.append(nn.Sequential(Smooth("same"), xavier(nn.Conv2d(in_channels, out_channels, 3, stride=2))))
    return steps


def _stage(
    in_channels: int,
    out_channels: int,
    head_channels: int | None = None,
    resample: Resample = "same",
    *,
    embedding: int,
    dropout: float,
) -> TimeAddedStage:
    resampler = None if resample == "same" else Smooth(resample)
    block = TimeAddedBlock(in_channels, out_channels, embedding, dropout, resampler, SCALE)
    return TimeAddedStage(block, out_channels, head_channels is not None, gain=math.sqrt(0.2))


class Settings(LevelSettings):
    """Settings of NCSN++.

    Those of Karras et al. for CIFAR-10 are channels 128, blocks 4, multipliers [2, 2, 2], attention [16], dropout 0.13.
    """

    def build(self, in_channels: int, out_channels: int, size: int) -> NCSNpp:
        """Build the U-Net: 56.4 M parameters for CIFAR-10 with the source's settings."""
        return NCSNpp(**self.arguments(in_channels, out_channels, size))
