"""The U-Net of ADM (Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from cspipe.nets.attention import PixelAttention
from cspipe.nets.blocks import Resample, ResidualBlock, TimeEmbedding, frequencies, group_norm, zeroed
from cspipe.nets.levels import Levels, decoder, encoder


class Stage(nn.Module):
    """A residual block and, where `head_channels` is a number, self-attention after it."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        head_channels: int | None = None,
        resample: Resample = "same",
        *,
        embedding: int,
        dropout: float,
    ) -> None:
        """Arguments as in ResidualBlock and PixelAttention."""
        super().__init__()
        self.block = ResidualBlock(in_channels, out_channels, embedding, dropout, resample)
        self.attention = nn.Identity() if head_channels is None else PixelAttention(out_channels, head_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x (N, in_channels, H, W), embedding (N, E) to (N, out_channels, H', W'), H' = H, H/2 or 2H."""
        out: Tensor = self.attention(self.block(x, embedding))
        return out


class UNet(Levels):
    """ADM's U-Net; level i works at size / 2^i pixels with channels * multipliers[i] feature channels.

    Each encoder level has `blocks` stages, each decoder level blocks + 1, each of which joins one encoder output.
    The middle has two stages, with attention after the first unless `attention` is empty (then there is none at all).
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
    ) -> None:
        """size: pixels, a multiple of 2^(levels - 1); attention: resolutions, in pixels.

        Raises ValueError where head_channels do not divide the width of a level with attention.
        """
        super().__init__()
        widths = [channels * multiplier for multiplier in multipliers]
        heads = [head_channels if size >> level in attention else None for level in range(len(widths))]
        stage = partial(Stage, embedding=4 * channels, dropout=dropout)
        self.time = TimeEmbedding(frequencies(channels), 4 * channels)
        self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.encoder, skips = encoder(stage, widths, heads, blocks, widths[0])
        between = (stage(widths[-1], widths[-1], head_channels if attention else None), stage(widths[-1], widths[-1]))
        self.middle = nn.ModuleList(between)
        self.decoder = decoder(stage, widths, heads, skips)
        last = zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(widths[0]), nn.SiLU(), last)
