"""Net C of residual blocks at full resolution."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu

from cspipe.nets.blocks import ResidualBlock, TimeEmbedding, frequencies, group_norm, zeroed


def build(in_channels: int, out_channels: int, size: int, width: int) -> ResNet:
    """Build the ResNet; it takes images of any size, so `size` is not used."""
    return ResNet(in_channels, out_channels, width)


class ResNet(nn.Module):
    """Ten residual blocks at full resolution (1.2 M parameters at width 64)."""

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(frequencies(width), 4 * width)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, 4 * width) for _ in range(10))
        last = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))
        self.head = nn.Sequential(group_norm(width), nn.SiLU(), last)

    def forward(self, x0_hat: Tensor, t: Tensor) -> Tensor:
        """Map x0_hat (N, in_channels, H, W), t (N,) to (N, out_channels, H, W) in the type of x0_hat."""
        embedding = silu(self.time(t))
        h = self.stem(x0_hat)
        for block in self.blocks:
            h = block(h, embedding)
        out: Tensor = self.head(h)
        return out.to(x0_hat.dtype)
