"""The U-Net of ADM (Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from cspipe.nets.attention import PixelAttention
from cspipe.nets.blocks import Resample, ResidualBlock, TimeEmbedding, group_norm, zeroed


class Stage(nn.Module):
    """A residual block and, where `head_channels` is a number, self-attention after it."""

    def __init__(
        self,
        taken: int,
        given: int,
        head_channels: int | None = None,
        resample: Resample = "same",
        *,
        embedding: int,
        dropout: float,
    ) -> None:
        """taken, given: channels in and out; the rest as in ResidualBlock and PixelAttention."""
        super().__init__()
        self.block = ResidualBlock(taken, given, embedding, dropout, resample)
        self.attention = nn.Identity() if head_channels is None else PixelAttention(given, head_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (N, taken, H, W), embedding (N, E): (N, given, H', W'), H' = H, H/2 or 2H."""
        out: Tensor = self.attention(self.block(x, embedding))
        return out


class Level(nn.Module):
    """One level of the way up: rise from the level below, then join one skip before every stage."""

    def __init__(self, rise: Stage | None, stages: list[Stage]) -> None:
        """rise: doubles the resolution, None at the deepest level; stages: take their input and a skip."""
        super().__init__()
        self.rise = rise
        self.stages = nn.ModuleList(stages)

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        """h (N, C, H, W), skips (used up from the end), embedding (N, E): (N, C', H', W'), a rise doubles H, W."""
        if self.rise is not None:
            h = self.rise(h, embedding)
        for stage in self.stages:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        return h


class UNet(nn.Module):
    """ADM's U-Net; level i works at size / 2^i pixels with channels * multipliers[i] feature channels.

    Downwards each level has `blocks` stages, upwards blocks + 1, each of which joins one output of the way down.
    Two stages stand between, with attention after the first unless `attention` is empty (then there is none at all).
    Residual branches and the last convolution start at 0, so the output does.
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
        head_channels: int,
        dropout: float,
        classes: int | None = None,
    ) -> None:
        """size: pixels, a multiple of 2^(levels - 1); attention: resolutions, in pixels; classes: None for no labels.

        Raises ValueError where head_channels do not divide the width of a level with attention.
        """
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        heads = [head_channels if size >> level in attention else None for level in range(len(widths))]
        stage = partial(Stage, embedding=4 * channels, dropout=dropout)
        self.time = TimeEmbedding(channels)
        self.label = None if classes is None else nn.Embedding(classes, 4 * channels)
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.encoder, skips = _encoder(stage, widths, heads, blocks)
        between = (stage(widths[-1], widths[-1], head_channels if attention else None), stage(widths[-1], widths[-1]))
        self.middle = nn.ModuleList(between)
        self.decoder = _decoder(stage, widths, heads, skips)
        last = zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(widths[0]), nn.SiLU(), last)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x (N, in_channels, size, size), t (N,) in 0..1000, y (N,) labels if and only if the net has classes.

        Returns (N, out_channels, size, size) in x's type, also under autocast. Raises ValueError on y without
        classes, or classes without y.
        """
        embedding = self._embed(t, y)
        h = self.stem(x)
        skips = [h]
        for stage in self.encoder:
            h = stage(h, embedding)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, embedding)
        for level in self.decoder:
            h = level(h, skips, embedding)
        out: Tensor = self.head(h)
        return out.to(x.dtype)

    def _embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Time and label as one vector (N, 4 channels), through the SiLU that ADM repeats in every block."""
        if (y is None) != (self.label is None):
            raise ValueError("labels y go with a net built with classes, and only with it")
        embedding: Tensor = self.time(t)
        return silu(embedding if self.label is None else embedding + self.label(y))


def _encoder(
    stage: Callable[..., Stage], widths: list[int], heads: list[int | None], blocks: int
) -> tuple[nn.ModuleList, list[int]]:
    """The way down, and the width of all that the way up joins: the stem, then every stage."""
    stages = nn.ModuleList()
    skips = [widths[0]]
    for level, width in enumerate(widths):
        if level:
            stages.append(stage(skips[-1], skips[-1], resample="down"))
            skips.append(skips[-1])
        for _ in range(blocks):
            stages.append(stage(skips[-1], width, heads[level]))
            skips.append(width)
    return stages, skips


def _decoder(
    stage: Callable[..., Stage], widths: list[int], heads: list[int | None], skips: list[int]
) -> nn.ModuleList:
    """The way up, deepest level first; `skips` holds the width of all that it joins, used up from the end."""
    levels = nn.ModuleList()
    per_level = len(skips) // len(widths)
    below = widths[-1]
    for width, head_channels in reversed(list(zip(widths, heads, strict=True))):
        rise = stage(below, below, resample="up") if levels else None
        taken = [below, *[width] * (per_level - 1)]
        levels.append(Level(rise, [stage(features + skips.pop(), width, head_channels) for features in taken]))
        below = width
    return levels
