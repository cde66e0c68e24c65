"""The compensation module C(x0h, t), close to x0 - x0h, in three architectures; all start as C = 0.

Each is built from (image channels, size, width) and called as C(x0h, t), with x0h (N, image channels, size, size) in
[-1, 1] and t (N,) in 0..1000; it returns x0h's shape and type. `width` is a multiple of 16, `size` of 4. Widths of 32
to 64 fit 32 and 64 pixels; at 256 pixels take 32, 1 to 2 % of the main net's multiplications.

To add one, write it here and enter it in COMPENSATION_NETS (and name it in params.Compensation.net).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from cspipe.nets.attention import TokenAttention
from cspipe.nets.blocks import ResidualBlock, TimeEmbedding, frequencies, group_norm, modulate, waves, zeroed
from cspipe.nets.unet import UNet


def light_unet(image_channels: int, size: int, width: int) -> UNet:
    """The default: ADM's U-Net with one block per level, two halvings and no attention (5.2 M parameters at 64)."""
    return UNet(
        in_channels=image_channels,
        out_channels=image_channels,
        size=size,
        channels=width,
        blocks=1,
        multipliers=(1, 2, 2),
        attention=(),
        head_channels=width,
        dropout=0.0,
    )


class ResNet(nn.Module):
    """Ten residual blocks at full resolution (1.2 M parameters at width 64)."""

    def __init__(self, image_channels: int, size: int, width: int) -> None:
        """Any size will do, so `size` is not used."""
        super().__init__()
        self.time = TimeEmbedding(width)
        self.stem = nn.Conv2d(image_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, 4 * width) for _ in range(10))
        last = zeroed(nn.Conv2d(width, image_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(width), nn.SiLU(), last)

    def forward(self, x0h: Tensor, t: Tensor) -> Tensor:
        """x0h (N, image_channels, H, W), t (N,): the shape and type of x0h."""
        embedding = silu(self.time(t))
        h = self.stem(x0h)
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.head(h)
        return out.to(x0h.dtype)


class TokenBlock(nn.Module):
    """Attention, then an MLP, each added to its input behind a norm that time scales and shifts."""

    def __init__(self, width: int, head_channels: int) -> None:
        """width: channels of a token and of the time embedding."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(width, 4 * width)
        self.attention = TokenAttention(width, head_channels)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), zeroed(nn.Linear(4 * width, width)))

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """tokens (N, L, width), embedding (N, width) already through SiLU: the shape of the tokens."""
        for_attention, for_mlp = self.modulation(embedding)[:, None].chunk(2, dim=2)
        tokens = tokens + self.attention(modulate(self.norms[0](tokens), for_attention, dim=2))
        out: Tensor = tokens + self.mlp(modulate(self.norms[1](tokens), for_mlp, dim=2))
        return out


class Transformer(nn.Module):
    """Four pre-norm blocks on patches of 4 x 4 pixels, 4 * width channels per token (4.3 M parameters at width 64)."""

    positions: Tensor

    def __init__(self, image_channels: int, size: int, width: int) -> None:
        """As the module says; `size` fixes the grid of positions. Attention heads have 32 channels."""
        super().__init__()
        self.time = TimeEmbedding(width)
        self.patches = nn.Conv2d(image_channels, 4 * width, 4, stride=4)
        self.register_buffer("positions", grid_waves(size // 4, 4 * width), persistent=False)
        self.blocks = nn.ModuleList(TokenBlock(4 * width, head_channels=32) for _ in range(4))
        self.head = nn.Sequential(nn.LayerNorm(4 * width), zeroed(nn.Linear(4 * width, 16 * image_channels)))

    def forward(self, x0h: Tensor, t: Tensor) -> Tensor:
        """x0h (N, image_channels, size, size), t (N,): the shape and type of x0h."""
        embedding = silu(self.time(t))
        patches = self.patches(x0h)
        tokens = patches.flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding)
        pixels = self.head(tokens).transpose(1, 2).unflatten(2, patches.shape[2:])
        return pixel_shuffle(pixels, 4).to(x0h.dtype)


def grid_waves(side: int, width: int) -> Tensor:
    """Positions of a side x side grid, row by row: waves of the row, then of the column, (side^2, width)."""
    along = waves(torch.arange(side, dtype=torch.float32), frequencies(width // 2))
    rows = along[:, None].expand(side, side, -1)
    columns = along[None, :].expand(side, side, -1)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)


COMPENSATION_NETS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "unet": light_unet,
    "resnet": ResNet,
    "transformer": Transformer,
}
