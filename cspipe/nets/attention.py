"""Multi-head self-attention: over tokens, and over the pixels of a feature map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from cspipe.nets.blocks import group_norm, zeroed


class TokenAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V per head of d channels, then a projection that starts at 0 (Vaswani et al. 2017)."""

    def __init__(self, width: int, head_channels: int) -> None:
        """width: channels of a token; head_channels: d. Raises ValueError where d does not divide the width."""
        super().__init__()
        if width % head_channels:
            raise ValueError(f"head_channels {head_channels} does not divide the width {width}")
        self.heads = width // head_channels
        self.qkv = nn.Linear(width, 3 * width)
        self.project = zeroed(nn.Linear(width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (N, L, width) to tokens of the same shape."""
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        heads = scaled_dot_product_attention(q, k, v)
        out: Tensor = self.project(heads.transpose(1, 2).flatten(2))
        return out


class PixelAttention(nn.Module):
    """ADM's attention block: x + attention(norm(x)), every pixel a token; no positions."""

    def __init__(self, width: int, head_channels: int, eps: float = 1e-5) -> None:
        """width: channels of the features; head_channels: channels per head; eps: epsilon of the group norm."""
        super().__init__()
        self.norm = group_norm(width, eps)
        self.attention = TokenAttention(width, head_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, width, H, W) to features of the same shape."""
        attended: Tensor = self.attention(self.norm(x).flatten(2).transpose(1, 2))
        return x + attended.transpose(1, 2).reshape(x.shape)
