"""The residual block of Ho et al. (2020) and Song et al. (2021): time is added between the convolutions."""

from __future__ import annotations

from torch import Tensor, nn

from cspipe.nets.attention import PixelAttention
from cspipe.nets.blocks import group_norm, xavier, zeroed

EPS = 1e-6
"""Epsilon of the group normalisation in nets with this block."""


class TimeAddedBlock(nn.Module):
    """scale * (skip(x) + branch(x, time)), with both convolutions of the branch behind a norm and SiLU.

    A resampler acts on both paths, on the branch before its first convolution. Weights start as in the sources: uniform
    by fan in and fan out, biases at 0, and the last convolution at 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        resampler: nn.Module | None = None,
        scale: float = 1.0,
    ) -> None:
        """in_channels, out_channels: multiples of 16; embedding: width of the time embedding; dropout: probability."""
        super().__init__()
        resample = resampler or nn.Identity()
        self.scale = scale
        self.before = nn.Sequential(group_norm(in_channels, EPS), nn.SiLU(), resample)
        self.first = xavier(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.shift = xavier(nn.Linear(embedding, out_channels))
        last = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.after = nn.Sequential(group_norm(out_channels, EPS), nn.SiLU(), nn.Dropout(dropout), last)
        straight = in_channels == out_channels and resampler is None
        self.skip = nn.Sequential(
            resample, nn.Identity() if straight else xavier(nn.Conv2d(in_channels, out_channels, 1))
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (N, in_channels, H, W), embedding (N, E) after SiLU to (N, out_channels, H', W') of the resampler."""
        h = self.first(self.before(x)) + self.shift(embedding)[:, :, None, None]
        out: Tensor = (self.skip(x) + self.after(h)) * self.scale
        return out


class TimeAddedStage(nn.Module):
    """A block and, if `attends`, one-head self-attention after it, whose residual sum is scaled like the block's."""

    def __init__(self, block: TimeAddedBlock, width: int, attends: bool, gain: float) -> None:
        """width: channels of the block's output; gain: factor on the initial weights of queries, keys and values."""
        super().__init__()
        self.block = block
        self.attention = PixelAttention(width, width, EPS) if attends else None
        if self.attention is not None:
            xavier(self.attention.attention.qkv, gain)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (N, in_channels, H, W), embedding (N, E) to (N, width, H', W')."""
        h: Tensor = self.block(x, embedding)
        return h if self.attention is None else self.attention(h) * self.block.scale
