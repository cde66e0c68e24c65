"""Net C of self-attention over patches."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, silu

from cspipe.nets.attention import TokenAttention
from cspipe.nets.blocks import TimeEmbedding, frequencies, grid_waves, modulate, zeroed


def build(in_channels: int, out_channels: int, size: int, width: int) -> Transformer:
    """Build the transformer; `size` fixes the grid of position embeddings."""
    return Transformer(in_channels, out_channels, size, width)


class TokenBlock(nn.Module):
    """Attention, then an MLP, both residual branches behind a norm that time scales and shifts."""

    def __init__(self, width: int, head_channels: int) -> None:
        """width: channels of a token and of the time embedding; head_channels: channels per head."""
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulation = nn.Linear(width, 4 * width)
        self.attention = TokenAttention(width, head_channels)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), zeroed(nn.Linear(4 * width, width)))

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """Map tokens (N, L, width), embedding (N, width) after SiLU to tokens of the same shape."""
        for_attention, for_mlp = self.modulation(embedding)[:, None].chunk(2, dim=2)
        tokens = tokens + self.attention(modulate(self.norms[0](tokens), for_attention, dim=2))
        out: Tensor = tokens + self.mlp(modulate(self.norms[1](tokens), for_mlp, dim=2))
        return out


class Transformer(nn.Module):
    """Four pre-norm blocks on patches of 4 x 4 pixels, 4 * width channels per token (4.3 M parameters at width 64)."""

    positions: Tensor

    def __init__(self, in_channels: int, out_channels: int, size: int, width: int) -> None:
        """size: pixels, a multiple of 4. Attention heads have 32 channels."""
        super().__init__()
        self.time = TimeEmbedding(frequencies(width), 4 * width)
        self.patches = nn.Conv2d(in_channels, 4 * width, 4, stride=4)
        self.register_buffer("positions", grid_waves(size // 4, 4 * width), persistent=False)
        self.blocks = nn.ModuleList(TokenBlock(4 * width, head_channels=32) for _ in range(4))
        self.head = nn.Sequential(nn.LayerNorm(4 * width), zeroed(nn.Linear(4 * width, 16 * out_channels)))

    def forward(self, x0_hat: Tensor, t: Tensor) -> Tensor:
        """Map x0_hat (N, in_channels, size, size), t (N,) to (N, out_channels, size, size) in the type of x0_hat."""
        embedding = silu(self.time(t))
        patches = self.patches(x0_hat)
        tokens = patches.flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding)
        pixels = self.head(tokens).transpose(1, 2).unflatten(2, patches.shape[2:])
        return pixel_shuffle(pixels, 4).to(x0_hat.dtype)
