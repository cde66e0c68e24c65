"""The skeleton of a U-Net: levels of half the resolution each, down and up again, joined by skips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from cspipe.nets.blocks import TimeEmbedding

NewStage = Callable[..., nn.Module]
"""Stage factory: (in_channels, out_channels, head_channels or None for no attention, resample="same" | "down" | "up")
-> a module that takes (h, embedding)."""


class Level(nn.Module):
    """One decoder level: upsample the features of the level below, then concatenate one skip before every stage."""

    def __init__(self, rise: nn.Module | None, stages: list[nn.Module]) -> None:
        """rise: doubles the resolution, None at the deepest level; stages: take the features joined with a skip."""
        super().__init__()
        self.rise = rise
        self.stages = nn.ModuleList(stages)

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        """Map h (N, C, H, W), embedding (N, E) to (N, C', H', W'); rise doubles H, W; skips are popped from the end."""
        if self.rise is not None:
            h = self.rise(h, embedding)
        for stage in self.stages:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        return h


class Levels(nn.Module):
    """Base class of U-Nets: the forward pass through parts that a subclass sets."""

    time: TimeEmbedding
    stem: nn.Conv2d
    encoder: nn.ModuleList
    middle: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Sequential

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Map x (N, in_channels, size, size), t (N,) in 0..1000 to (N, out_channels, size, size) in x's type."""
        return self.walk(x, silu(self.time(t)))

    def walk(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Run encoder, middle, decoder and head; the output has x's type, also under autocast."""
        skips = self.descend(x, embedding)
        h = skips[-1]
        for stage in self.middle:
            h = stage(h, embedding)
        for level in self.decoder:
            h = level(h, skips, embedding)
        out: Tensor = self.head(h)
        return out.to(x.dtype)

    def descend(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """Run the encoder: return the features of stem and stages, all of which the decoder joins as skips."""
        skips = [self.stem(x)]
        for stage in self.encoder:
            skips.append(stage(skips[-1], embedding))
        return skips


def encoder(
    stage: NewStage, widths: list[int], heads: list[int | None], blocks: int, stem: int
) -> tuple[nn.ModuleList, list[int]]:
    """Build the encoder; return it and the widths of the skips that the decoder joins: of the stem, then each stage."""
    stages = nn.ModuleList()
    skips = [stem]
    for level, width in enumerate(widths):
        if level:
            stages.append(stage(skips[-1], skips[-1], resample="down"))
            skips.append(skips[-1])
        for _ in range(blocks):
            stages.append(stage(skips[-1], width, heads[level]))
            skips.append(width)
    return stages, skips


def decoder(
    stage: NewStage, widths: list[int], heads: list[int | None], skips: list[int], *, attend_last: bool = False
) -> nn.ModuleList:
    """Build the decoder, deepest level first; `skips` holds the widths of the skips it joins, popped from the end.

    A level with heads has attention after every stage; with attend_last, after its last stage alone.
    """
    levels = nn.ModuleList()
    per_level = len(skips) // len(widths)
    below = widths[-1]
    for width, head_channels in reversed(list(zip(widths, heads, strict=True))):
        rise = stage(below, below, resample="up") if levels else None
        widths_in = [below, *[width] * (per_level - 1)]
        attending = [None if attend_last else head_channels] * (per_level - 1) + [head_channels]
        pairs = zip(widths_in, attending, strict=True)
        levels.append(Level(rise, [stage(features + skips.pop(), width, head) for features, head in pairs]))
        below = width
    return levels
