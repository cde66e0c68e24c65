"""SongUNet of EDM (Karras et al. 2022): DDPM++ and NCSN++ (Song et al. 2021) as EDM's files hold them.

Unlike the other nets here, it takes the noise level of t as its input, and the Fourier frequencies of NCSN++, which
the source draws at random, are stored with its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, softplus

from cspipe.diffusion.schedule import karras_schedule
from cspipe.nets.backbone import LevelSettings
from cspipe.nets.blocks import Resample, TimeEmbedding, group_norm, xavier, xavier_linears, zeroed
from cspipe.nets.levels import Levels, decoder, encoder
from cspipe.nets.time_added import EPS, TimeAddedBlock, TimeAddedStage

SCALE = math.sqrt(0.5)
"""Factor on every sum of two paths, which keeps its variance."""
TAPS = {"ddpmpp": (1.0, 1.0), "ncsnpp": (1.0, 3.0, 3.0, 1.0)}
"""Taps of the resampling filters by architecture, up to a constant factor."""
FOURIER = 16.0
"""Standard deviation of the Fourier frequencies, in turns per unit of the noise label."""
BETA_MIN, BETA_D, LAST = 0.1, 19.9, 999
"""beta_min and beta_d of the VP process (Song et al. 2021), and its last timestep."""


def noise_labels(precond: str, levels: int) -> Tensor:
    """Return c_noise (levels,) of EDM's noise levels, the lowest first (Karras et al. 2022, table 1)."""
    log_sigma = -karras_schedule(levels).half_log_snr(torch.arange(1, levels + 1))
    if precond == "edm":
        return (log_sigma / 4).float()
    time = ((BETA_MIN**2 + 2 * BETA_D * softplus(2 * log_sigma)).sqrt() - BETA_MIN) / BETA_D
    return (LAST * time).float()


class NoiseEmbedding(TimeEmbedding):
    """Embedding (N, width) of the noise label of native step t (N,), in 0..1000 whatever the number of steps."""

    labels: Tensor

    def __init__(self, angular: Tensor, width: int, labels: Tensor, drawn: bool) -> None:
        """angular: frequencies (half,); labels: noise labels of steps 1..T; drawn: random frequencies, to be stored."""
        super().__init__(angular, width)
        self.register_buffer("labels", labels, persistent=False)
        if drawn:
            del self.frequencies
            self.frequencies = nn.Parameter(angular, requires_grad=False)

    def forward(self, t: Tensor) -> Tensor:
        """Map t (N,) to the embedding (N, width)."""
        step = (t * (len(self.labels) / 1000)).round().long().clamp(1, len(self.labels))
        return super().forward(self.labels[step - 1])


class Filter(nn.Module):
    """Filter every channel along rows and columns, and halve or double the resolution."""

    kernel: Tensor

    def __init__(self, taps: Sequence[float], resample: Resample, padding: int | None = None) -> None:
        """padding: zeros on each side of the image; None: as many as keep the image in place."""
        super().__init__()
        self.resample, self.padding = resample, (len(taps) - 1) // 2 if padding is None else padding
        row = torch.tensor(taps) / sum(taps) * (2 if resample == "up" else 1)
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, C, H, W) to (N, C, H', W'), H' = H/2 or 2H."""
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, -1, -1, -1)
        convolve = conv_transpose2d if self.resample == "up" else conv2d
        return convolve(x, kernel, stride=2, padding=self.padding, groups=channels)


class SongUNet(Levels):
    """SongUNet; level i works at size / 2^i pixels with channels * multipliers[i] feature channels.

    Attention has one head; the middle always has attention, a decoder level after its last stage alone.
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
        arch: str,
        precond: str,
        levels: int,
    ) -> None:
        """size: pixels, a multiple of 2^(levels of the net - 1); attention: resolutions, in pixels."""
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        heads = [width if size >> level in attention else None for level, width in enumerate(widths)]
        stage = partial(_stage, taps=TAPS[arch], embedding=4 * channels, dropout=dropout)
        residual = arch == "ncsnpp"
        angular = 2 * math.pi * FOURIER * torch.randn(channels) if residual else torch.logspace(0, -4, channels // 2)
        self.time = NoiseEmbedding(angular, 4 * channels, noise_labels(precond, levels), drawn=residual)
        xavier_linears(self.time)
        self.stem = xavier(nn.Conv2d(in_channels, channels, 3, padding=1))
        self.encoder, skips = encoder(stage, widths, heads, blocks, channels)
        pyramid = pairwise([in_channels, *widths[:-1]]) if residual else ()
        self.pyramid = nn.ModuleList(_halving(*pair) for pair in pyramid)
        self.per_level = blocks + 1
        self.middle = nn.ModuleList([stage(widths[-1], widths[-1], widths[-1]), stage(widths[-1], widths[-1])])
        self.decoder = decoder(stage, widths, heads, skips, attend_last=True)
        last = zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(widths[0], EPS), nn.SiLU(), last)

    def descend(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Run the encoder; NCSN++'s pyramid adds the halved input to the first halving, each halved sum to the next."""
        skips = [self.stem(x)]
        joined = x
        for place, stage in enumerate(self.encoder, start=1):
            h = stage(skips[-1], embedding)
            if self.pyramid and place % self.per_level == 0:
                h = joined = (h + self.pyramid[place // self.per_level - 1](joined)) * SCALE
            skips.append(h)
        return skips


def _halving(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a step of NCSN++'s pyramid: a convolution and a filter that halves the resolution."""
    return nn.Sequential(xavier(nn.Conv2d(in_channels, out_channels, 3, padding=2)), Filter(TAPS["ncsnpp"], "down", 0))


def _stage(
    in_channels: int,
    out_channels: int,
    head_channels: int | None = None,
    resample: Resample = "same",
    *,
    taps: Sequence[float],
    embedding: int,
    dropout: float,
) -> TimeAddedStage:
    resampler = None if resample == "same" else Filter(taps, resample)
    block = TimeAddedBlock(in_channels, out_channels, embedding, dropout, resampler, SCALE)
    return TimeAddedStage(block, out_channels, head_channels is not None, gain=math.sqrt(0.2))


class Settings(LevelSettings):
    """Settings of SongUNet.

    EDM's for CIFAR-10 are channels 128, blocks 4, multipliers [2, 2, 2], attention [16], dropout 0.13.
    """

    arch: Literal["ddpmpp", "ncsnpp"] = Field(description="DDPM++, or NCSN++ with its pyramid and wider filters")
    precond: Literal["edm", "vp"] = Field(description="what the net is told of sigma: ln(sigma) / 4, or VP's timestep")
    levels: Annotated[int, Field(ge=2, le=10_000, strict=True)] = Field(
        description="diffusion.steps, whose noise levels, those of schedule karras, the net is told"
    )

    def check_steps(self, steps: int) -> None:
        """Check that steps is model.levels, else noise labels would be wrong for the states. Raises ValueError."""
        if steps != self.levels:
            raise ValueError(f"model.levels {self.levels} must be diffusion.steps, which is {steps}")

    def build(self, in_channels: int, out_channels: int, size: int) -> SongUNet:
        """Build the U-Net: 55.7 M (DDPM++) or 56.4 M (NCSN++) parameters for CIFAR-10 with EDM's settings."""
        return SongUNet(**self.arguments(in_channels, out_channels, size))
